// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdlib>

#include "../../include/cohort/ipc/channel_options.hpp"

namespace cohort::test {

/// The same options for the transport that the room is tested with: over shared memory when COHORT_TEST_TRANSPORT says
/// so (tests/meson.build). The rings are small, so that messages are larger than they.
inline channel_options over_transport(channel_options options = {}) {
  if (std::getenv("COHORT_TEST_TRANSPORT") == nullptr) return options;
  options.transport = transport::shared_memory;
  options.ring_size = 256 * 1024;
  return options;
}

}  // namespace cohort::test
