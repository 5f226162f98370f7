// SPDX-License-Identifier: BSL-1.0
/// UTF-8, UTF-16 and Latin-1, where the strings of C++ meet those of JavaScript.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace cohort::detail {

inline constexpr char32_t replacement_character = 0xFFFD;

/// Takes the character at `at` out of UTF-8, and moves `at` behind it. What is no UTF-8 is U+FFFD, one for each longest
/// beginning of a character (as WHATWG's decoder).
char32_t next_character(std::string_view text, std::size_t& at) noexcept;

void append_utf8(std::string& to, char32_t character);

/// The text with U+FFFD in place of what is no UTF-8.
std::string valid_utf8(std::string_view text);

/// Latin-1 as UTF-8.
std::string from_latin1(std::string_view text);

/// UTF-16, the low byte first, as UTF-8; half of a pair becomes U+FFFD. `bytes` has an even size.
std::string from_utf16(std::string_view bytes);

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "utf.ipp"
#endif
