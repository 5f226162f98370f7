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

COHORT_INLINE std::string one_line(std::string text) {
  constexpr std::size_t longest = 256;
  const auto continues = [&](std::size_t at) { return (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80; };
  if (text.size() > longest) {
    std::size_t end = longest;
    while (end > longest - 4 && continues(end)) --end;
    text.resize(end);
    text += "...";
  }
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

}  // namespace cohort::detail
