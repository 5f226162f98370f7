// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>

#include <sys/types.h>

namespace cohort {

/// What came of an upgrade.
struct upgrade_result {
  pid_t pid = 0;       ///< of the new primary
  std::string reason;  ///< why the old one goes on; empty if it does not

  bool success() const noexcept { return reason.empty(); }
};

}  // namespace cohort
