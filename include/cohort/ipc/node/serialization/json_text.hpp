// SPDX-License-Identifier: BSL-1.0
/// JSON values as lines, as Node's `json` serialization has them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "../json.hpp"

namespace cohort::detail {

/// Arrays and objects within each other, in a message of either direction. Whoever walks through a value does so by
/// recursion, as JSON.stringify does.
inline constexpr std::size_t max_json_depth = 1000;

/// Throws EINVAL, with a text that names the value, for a value that has no JSON: deeper than max_json_depth, or
/// discarded by a parser.
void check_json(const json& value);

/// The text of a value with the newline behind it. Bytes that are no UTF-8 become U+FFFD. Throws as check_json(), and
/// EINVAL for a binary value.
std::string to_json_line(const json& value);

/// The value of a line without its newline. As JSON.parse, but a surrogate without its other half becomes U+FFFD, and
/// so does what is no UTF-8.
///
/// Throws errc::malformed for what is no JSON, for a number beyond a double, and for what is deeper than
/// max_json_depth.
json from_json_line(std::string_view line);

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "json_text.ipp"
#endif
