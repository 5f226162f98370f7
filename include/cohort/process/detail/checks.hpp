// SPDX-License-Identifier: BSL-1.0
/// How a launch refuses values, and how its errors show them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <sys/resource.h>

#include "../../core/error.hpp"
#include "../command.hpp"
#include "option_types.hpp"

namespace cohort::detail {

/// A value as error texts show it: in quotes, with a NUL made visible.
std::string in_quotes(std::string_view value);

/// `"nobody"` or `65534`.
std::string shown(const account& who);

std::string shown(const std::vector<account>& list);

/// `stdin`, `stdout`, `stderr` or `fd 7`.
std::string descriptor_name(int number);

std::string_view shown(io_class served);

/// `RLIMIT_NOFILE 100:unlimited`.
std::string shown(int resource, const rlimit& limit);

/// Throws `spawn: what value: invalid option`.
template <class T>
[[noreturn]] void refuse(std::string_view what, const T& value) {
  throw_error(fmt::format("spawn: {} {}", what, value), errc::invalid_option);
}

/// What goes to the kernel ends at its first NUL, so that a string with one inside would be another string there.
void check_string(std::string_view what, const std::string& value);

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "checks.ipp"
#endif
