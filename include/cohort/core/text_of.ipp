// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "text_of.hpp"

#include "config.hpp"

namespace cohort::detail {

COHORT_INLINE std::string text_of(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "an exception that is no std::exception";
  }
}

}  // namespace cohort::detail
