// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <exception>
#include <string>

#include "config.hpp"

namespace cohort::detail {

/// What an exception says: what(), or that it is no std::exception. Call it with one that is set.
std::string text_of(const std::exception_ptr& thrown);

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "text_of.ipp"
#endif
