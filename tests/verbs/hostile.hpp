// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>

namespace cohort::test::hostile {

struct note {
  std::string text;
};

}  // namespace cohort::test::hostile
