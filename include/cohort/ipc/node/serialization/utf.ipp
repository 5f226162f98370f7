// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "utf.hpp"

#include "../../../core/config.hpp"

namespace cohort::detail {

COHORT_INLINE char32_t next_character(std::string_view text, std::size_t& at) noexcept {
  const auto byte = [&](std::size_t index) { return static_cast<unsigned char>(text[index]); };
  const unsigned char first = byte(at++);
  if (first < 0x80) return first;
  // The second byte's limits leave out what is longer than it need be, surrogates, and what is beyond U+10FFFF
  // (Unicode, table 3-7).
  unsigned char low = 0x80, high = 0xBF;
  int more = 0;
  char32_t character = 0;
  if (first >= 0xC2 && first <= 0xDF) {
    more = 1;
    character = first & 0x1Fu;
  } else if (first >= 0xE0 && first <= 0xEF) {
    more = 2;
    character = first & 0x0Fu;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    more = 3;
    character = first & 0x07u;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return replacement_character;
  }
  for (; more > 0; --more) {
    if (at == text.size() || byte(at) < low || byte(at) > high) return replacement_character;
    character = character << 6 | (byte(at++) & 0x3Fu);
    low = 0x80;
    high = 0xBF;
  }
  return character;
}

COHORT_INLINE void append_utf8(std::string& to, char32_t character) {
  const auto put = [&to](char32_t byte) { to.push_back(static_cast<char>(byte)); };
  if (character < 0x80) {
    put(character);
  } else if (character < 0x800) {
    put(0xC0 | character >> 6);
    put(0x80 | (character & 0x3F));
  } else if (character < 0x10000) {
    put(0xE0 | character >> 12);
    put(0x80 | (character >> 6 & 0x3F));
    put(0x80 | (character & 0x3F));
  } else {
    put(0xF0 | character >> 18);
    put(0x80 | (character >> 12 & 0x3F));
    put(0x80 | (character >> 6 & 0x3F));
    put(0x80 | (character & 0x3F));
  }
}

COHORT_INLINE std::string valid_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) append_utf8(result, next_character(text, at));
  return result;
}

COHORT_INLINE std::string from_latin1(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (const char each : text) append_utf8(result, static_cast<unsigned char>(each));
  return result;
}

COHORT_INLINE std::string from_utf16(std::string_view bytes) {
  const auto unit = [&](std::size_t at) -> char32_t {
    return static_cast<unsigned char>(bytes[at]) | static_cast<char32_t>(static_cast<unsigned char>(bytes[at + 1]))
                                                       << 8;
  };
  std::string result;
  result.reserve(bytes.size());
  for (std::size_t at = 0; at < bytes.size(); at += 2) {
    char32_t character = unit(at);
    if (character >= 0xD800 && character < 0xE000) {
      const char32_t next = at + 2 < bytes.size() ? unit(at + 2) : 0;
      if (character < 0xDC00 && next >= 0xDC00 && next < 0xE000) {
        character = 0x10000 + ((character - 0xD800) << 10) + (next - 0xDC00);
        at += 2;
      } else {
        character = replacement_character;
      }
    }
    append_utf8(result, character);
  }
  return result;
}

}  // namespace cohort::detail
