// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <exception>
#include <string>

#include "config.hpp"

namespace cohort::detail {

/// What an exception says: what(), or that it is no std::exception. Call it with one that is set.
std::string text_of(const std::exception_ptr& thrown);

/// What somebody else has written, as a part of one line of a log: control characters are replaced by `?`, and what is
/// longer than 256 bytes is cut off, not inside a character of UTF-8.
std::string one_line(std::string text);

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "text_of.ipp"
#endif
