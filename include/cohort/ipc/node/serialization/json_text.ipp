// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "json_text.hpp"

#include "../../../core/config.hpp"

#include <cerrno>
#include <cstdint>

#include "../../../core/error.hpp"
#include "utf.hpp"

namespace cohort::detail {

inline void check_json_below(const json& value, std::size_t depth, bool binary) {
  if (value.is_structured()) {
    if (depth == max_json_depth) {
      throw_error("json: more than " + std::to_string(max_json_depth) + " levels", EINVAL);
    }
    for (const auto& each : value) check_json_below(each, depth + 1, binary);
  } else if (value.is_discarded()) {
    throw_error("json: a value that a parser has discarded", EINVAL);
  } else if (!binary && value.is_binary()) {
    throw_error("json: a binary value has no JSON", EINVAL);
  }
}

COHORT_INLINE void check_json(const json& value) { check_json_below(value, 0, true); }

COHORT_INLINE std::string to_json_line(const json& value) {
  check_json_below(value, 0, false);
  std::string line = value.dump(-1, ' ', false, json::error_handler_t::replace);
  line.push_back('\n');
  return line;
}

/// The parser builds values of any depth, and whoever walks through them later would run out of stack.
inline void check_text_depth(std::string_view line) {
  std::size_t depth = 0;
  bool quoted = false;
  for (std::size_t at = 0; at < line.size(); ++at) {
    switch (line[at]) {
      case '"': quoted = !quoted; break;
      case '\\': at += quoted ? 1 : 0; break;
      case '[':
      case '{':
        if (!quoted && ++depth > max_json_depth) {
          throw_error("receive: JSON of more than " + std::to_string(max_json_depth) + " levels", errc::malformed);
        }
        break;
      case ']':
      case '}':
        if (!quoted && depth != 0) --depth;
        break;
      default: break;
    }
  }
}

/// The code unit that the four digits at `at` write; -1 if they are none.
inline int escaped_unit(std::string_view line, std::size_t at) {
  if (at + 4 > line.size()) return -1;
  int unit = 0;
  for (const char digit : line.substr(at, 4)) {
    unit <<= 4;
    if (digit >= '0' && digit <= '9') {
      unit += digit - '0';
    } else if ((digit | 0x20) >= 'a' && (digit | 0x20) <= 'f') {
      unit += (digit | 0x20) - 'a' + 10;
    } else {
      return -1;
    }
  }
  return unit;
}

inline bool is_lead(int unit) { return unit >= 0xD800 && unit < 0xDC00; }
inline bool is_trail(int unit) { return unit >= 0xDC00 && unit < 0xE000; }

/// JavaScript has strings that are no Unicode, and JSON.stringify writes half of a pair as an escape.
inline std::string with_whole_characters(std::string_view line) {
  std::string result = valid_utf8(line);
  for (std::size_t at = result.find('\\'); at != std::string::npos; at = result.find('\\', at)) {
    if (at + 1 >= result.size() || result[at + 1] != 'u') {
      at += 2;
      continue;
    }
    const int unit = escaped_unit(result, at + 2);
    const bool paired = is_lead(unit) && at + 8 <= result.size() && result.compare(at + 6, 2, "\\u") == 0 &&
                        is_trail(escaped_unit(result, at + 8));
    if (!paired && (is_lead(unit) || is_trail(unit))) result.replace(at + 2, 4, "fffd");
    at += paired ? 12 : 6;
  }
  return result;
}

COHORT_INLINE json from_json_line(std::string_view line) {
  check_text_depth(line);
  json value = json::parse(line.begin(), line.end(), nullptr, false);
  if (!value.is_discarded()) return value;
  try {
    const std::string mended = with_whole_characters(line);
    return json::parse(mended.begin(), mended.end());
  } catch (const json::exception& error) {
    std::string start(line.substr(0, 40));
    throw_error("receive: \"" + valid_utf8(start) + (line.size() > 40 ? "...\"" : "\"") + " is no JSON (" +
                    error.what() + ")",
                errc::malformed);
  }
}

}  // namespace cohort::detail
