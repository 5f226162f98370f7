// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "v8.hpp"

#include "../../../core/config.hpp"

#include <bit>
#include <cerrno>
#include <cmath>
#include <limits>

#include "../../../core/error.hpp"
#include "json_text.hpp"
#include "utf.hpp"

namespace cohort::detail {

/// Writes one value. The offsets that V8 aligns by count from the header.
class v8_writer {
 public:
  explicit v8_writer(std::string& to) : to_(to), start_(to.size()) {
    to_ += "\xFF\x0D";  // version 13, which all Node releases read that have this serialization
  }

  void value(const json& of) {
    switch (of.type()) {
      case json::value_t::null: tag('0'); break;
      case json::value_t::boolean: tag(of.get<bool>() ? 'T' : 'F'); break;
      case json::value_t::number_integer: integer(of.get<std::int64_t>()); break;
      case json::value_t::number_unsigned: {
        const auto number = of.get<std::uint64_t>();
        if (number <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
          integer(static_cast<std::int64_t>(number));
        } else {
          bigint(number, false);
        }
        break;
      }
      case json::value_t::number_float: floating(of.get<double>()); break;
      case json::value_t::string: string(of.get_ref<const std::string&>()); break;
      case json::value_t::binary: binary(of.get_binary()); break;
      case json::value_t::array:
        tag('A');
        varint(of.size());
        for (const auto& each : of) value(each);
        tag('$');
        varint(0);
        varint(of.size());
        break;
      case json::value_t::object:
        tag('o');
        for (const auto& [name, each] : of.items()) {
          string(name);
          value(each);
        }
        tag('{');
        varint(of.size());
        break;
      case json::value_t::discarded: break;  // check_json() has refused it
    }
  }

 private:
  void tag(char which) { to_.push_back(which); }

  void varint(std::uint64_t number) {
    for (; number >= 0x80; number >>= 7) to_.push_back(static_cast<char>(0x80 | (number & 0x7F)));
    to_.push_back(static_cast<char>(number));
  }

  void little_endian(std::uint64_t number) {
    for (int shift = 0; shift < 64; shift += 8) to_.push_back(static_cast<char>(number >> shift & 0xFF));
  }

  void integer(std::int64_t number) {
    if (number == static_cast<std::int32_t>(number)) {
      tag('I');
      const auto narrow = static_cast<std::int32_t>(number);
      varint(static_cast<std::uint32_t>(narrow) << 1 ^ static_cast<std::uint32_t>(narrow >> 31));
    } else if (number <= max_exact && number >= -max_exact) {
      floating(static_cast<double>(number));
    } else {
      const auto bits = static_cast<std::uint64_t>(number);
      bigint(number < 0 ? 0 - bits : bits, number < 0);
    }
  }

  void floating(double number) {
    tag('N');
    little_endian(std::bit_cast<std::uint64_t>(number));
  }

  void bigint(std::uint64_t magnitude, bool negative) {
    tag('Z');
    varint(8u << 1 | (negative ? 1u : 0u));
    little_endian(magnitude);
  }

  void string(std::string_view text) {
    std::size_t units = 0;
    bool narrow = true;
    for (std::size_t at = 0; at < text.size();) {
      const char32_t character = next_character(text, at);
      narrow = narrow && character < 0x100;
      units += character < 0x10000 ? 1 : 2;
    }
    if (narrow) {
      tag('"');
      varint(units);
      if (units == text.size()) {
        to_ += text;
      } else {
        for (std::size_t at = 0; at < text.size();) to_.push_back(static_cast<char>(next_character(text, at)));
      }
      return;
    }
    std::size_t head = 2;
    for (std::size_t left = units * 2; left >= 0x80; left >>= 7) ++head;
    if ((to_.size() - start_ + head) % 2 != 0) tag('\0');
    tag('c');
    varint(units * 2);
    for (std::size_t at = 0; at < text.size();) {
      const char32_t character = next_character(text, at);
      if (character < 0x10000) {
        unit(character);
      } else {
        unit(0xD800 + ((character - 0x10000) >> 10));
        unit(0xDC00 + (character & 0x3FF));
      }
    }
  }

  void unit(char32_t which) {
    to_.push_back(static_cast<char>(which & 0xFF));
    to_.push_back(static_cast<char>(which >> 8));
  }

  void binary(const json::binary_t& bytes) {
    const auto kind = bytes.has_subtype() ? bytes.subtype() : static_cast<std::uint64_t>(v8_buffer::buffer);
    if (kind == static_cast<std::uint64_t>(v8_buffer::array_buffer)) {
      tag('B');
    } else if (kind <= static_cast<std::uint64_t>(v8_buffer::big_uint64_array)) {
      tag('\\');
      varint(0);
      varint(kind);
    } else {
      throw_error("v8: a binary value of subtype " + std::to_string(kind), EINVAL);
    }
    varint(bytes.size());
    to_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  static constexpr std::int64_t max_exact = std::int64_t{1} << 53;

  std::string& to_;
  std::size_t start_;
};

COHORT_INLINE void to_v8(std::string& to, const json& value) {
  check_json(value);
  v8_writer(to).value(value);
}

}  // namespace cohort::detail
