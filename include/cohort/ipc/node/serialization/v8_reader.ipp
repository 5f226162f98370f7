// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "v8.hpp"

#include "../../../core/config.hpp"

#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <ratio>
#include <tuple>
#include <utility>
#include <vector>

#include "../../../core/error.hpp"
#include "json_text.hpp"
#include "utf.hpp"

namespace cohort::detail {

/// The text of Date.toISOString(): of milliseconds since 1970, at most 8.64e15 of them.
inline std::string iso_date(std::int64_t milliseconds) {
  using namespace std::chrono;
  const sys_time<std::chrono::milliseconds> when{std::chrono::milliseconds(milliseconds)};
  const auto day = floor<days>(when);
  // The calendar repeats itself after 400 years, and year_month_day does not reach as far as JavaScript's dates do.
  constexpr days cycle{146097};
  const auto cycles =
      floor<duration<int, std::ratio_multiply<std::ratio<146097>, days::period>>>(day.time_since_epoch());
  const year_month_day date{sys_days(day.time_since_epoch() - cycles.count() * cycle)};
  const hh_mm_ss time(when - day);
  const int year = static_cast<int>(date.year()) + 400 * cycles.count();
  char text[48];
  std::snprintf(text, sizeof text, year < 0 || year > 9999 ? "%+07d-%02u-%02uT%02d:%02d:%02d.%03dZ"
                                                           : "%04d-%02u-%02uT%02d:%02d:%02d.%03dZ",
                year, static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
                static_cast<int>(time.seconds().count()), static_cast<int>(time.subseconds().count()));
  return text;
}

/// Reads one value. An object that is referred to is read again, from where it began: nothing is kept of it but that.
class v8_reader {
 public:
  explicit v8_reader(std::string_view bytes) : bytes_(bytes), work_(bytes.size() * 16 + (1u << 20)) {}

  json message() {
    if (byte("version") != 0xFF) fail("no version");
    const auto version = varint();
    if (version < 13 || version > 15) fail("version " + std::to_string(version) + ", where 13 to 15 are read");
    json result = value(0).value_or(json());
    if (at_ != bytes_.size()) fail("bytes behind the value");
    return result;
  }

 private:
  struct object {
    std::size_t begin;  // its tag
    bool open = true;
  };

  [[noreturn]] void fail(const std::string& what) const {
    throw_error("receive: v8: " + what + " at byte " + std::to_string(at_), errc::malformed);
  }

  std::string_view take(std::size_t size, const char* what) {
    if (size > bytes_.size() - at_) fail(std::string(what) + " is cut off");
    if (size > work_) fail("more references than a message of this size may have");
    work_ -= size;
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }

  unsigned char byte(const char* what) { return static_cast<unsigned char>(take(1, what)[0]); }

  std::uint64_t varint() {
    std::uint64_t result = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const unsigned char next = byte("a number");
      result |= static_cast<std::uint64_t>(next & 0x7F) << shift;
      if (next < 0x80) return result;
    }
    fail("a number of more than 64 bits");
  }

  std::string_view sized(const char* what) {
    const auto size = varint();
    if (size > bytes_.size() - at_) fail(std::string(what) + " is cut off");
    return take(static_cast<std::size_t>(size), what);
  }

  double floating() {
    const auto raw = take(8, "a number");
    std::uint64_t bits = 0;
    for (std::size_t index = 8; index-- > 0;) bits = bits << 8 | static_cast<unsigned char>(raw[index]);
    return std::bit_cast<double>(bits);
  }

  /// What JavaScript holds for an integer is one here, too.
  static json number(double of) {
    constexpr double exact = 9007199254740992.0;
    if (of >= -exact && of <= exact && of == std::trunc(of) && !(of == 0 && std::signbit(of))) {
      return static_cast<std::int64_t>(of);
    }
    return of;
  }

  std::string wide_string() {
    const auto raw = sized("a string");
    if (raw.size() % 2 != 0) fail("a string of half a unit");
    return from_utf16(raw);
  }

  json bigint() {
    const auto field = varint();
    const auto size = field >> 1;
    if (size > bytes_.size() - at_) fail("a bigint is cut off");
    const auto digits = take(static_cast<std::size_t>(size), "a bigint");
    std::uint64_t magnitude = 0;
    for (std::size_t index = 0; index < digits.size(); ++index) {
      const auto digit = static_cast<unsigned char>(digits[index]);
      if (index < 8) {
        magnitude |= static_cast<std::uint64_t>(digit) << 8 * index;
      } else if (digit != 0) {
        fail("a bigint of more than 64 bits");
      }
    }
    constexpr auto lowest = std::uint64_t{1} << 63;
    if ((field & 1) == 0) return magnitude < lowest ? json(static_cast<std::int64_t>(magnitude)) : json(magnitude);
    if (magnitude > lowest) fail("a bigint of more than 64 bits");
    return static_cast<std::int64_t>(0 - magnitude);
  }

  unsigned char next_tag() {
    unsigned char tag = 0;
    do {
      tag = byte("a value");
    } while (tag == 0);  // puts a string of two-byte units on an even address
    return tag;
  }

  unsigned char peek_tag() {
    const auto before = std::pair(at_, work_);
    const auto tag = next_tag();
    std::tie(at_, work_) = before;
    return tag;
  }

  /// Empty for undefined and for a hole.
  std::optional<json> value(std::size_t depth) {
    if (depth > max_json_depth) fail("more than " + std::to_string(max_json_depth) + " levels");
    const auto tag = next_tag();
    const auto begin = at_ - 1;
    switch (tag) {
      case '_': return std::nullopt;
      case '-': return std::nullopt;
      case '0': return json(nullptr);
      case 'T': return json(true);
      case 'F': return json(false);
      case 'I': {
        const auto raw = static_cast<std::uint32_t>(varint());
        return json(static_cast<std::int32_t>(raw >> 1 ^ (0 - (raw & 1))));
      }
      case 'U': return json(static_cast<std::uint32_t>(varint()));
      case 'N': return number(floating());
      case 'Z': return bigint();
      case '"': return json(from_latin1(sized("a string")));
      case 'c': return json(wide_string());
      case 'S': return json(valid_utf8(sized("a string")));
      case '^': return again(varint(), depth);
      default: return numbered(tag, begin, depth);
    }
  }

  std::optional<json> numbered(unsigned char tag, std::size_t begin, std::size_t depth) {
    const std::size_t id = next_id_++;
    if (id < objects_.size()) {
      objects_[id].open = true;
    } else {
      objects_.push_back({begin});
    }
    std::optional<json> result;
    switch (tag) {
      case 'o': result = properties('{', depth); break;
      case 'A': result = dense_array(depth); break;
      case 'a': result = sparse_array(depth); break;
      case 'D': result = date(); break;
      case '\'': result = set(depth); break;
      case ';': result = map(depth); break;
      case 'n': result = number(floating()); break;
      case 'y': result = json(true); break;
      case 'x': result = json(false); break;
      case 's': result = value(depth + 1).value_or(json()); break;
      case 'B': result = bytes_of(v8_buffer::array_buffer); break;
      case '\\': result = host_object(depth); break;
      default: --at_; fail("a value of kind " + std::to_string(tag) + ", which has no meaning here");
    }
    objects_[id].open = false;
    return result;
  }

  std::optional<json> again(std::uint64_t id, std::size_t depth) {
    if (id >= next_id_) fail("a reference to nothing");
    if (objects_[static_cast<std::size_t>(id)].open) fail("an object within itself");
    const auto back = std::pair(at_, next_id_);
    at_ = objects_[static_cast<std::size_t>(id)].begin;
    next_id_ = static_cast<std::size_t>(id);
    auto result = value(depth);
    std::tie(at_, next_id_) = back;
    return result;
  }

  std::string property_name(std::size_t depth) {
    const auto tag = peek_tag();
    if (tag != '"' && tag != 'c' && tag != 'S' && tag != 'I' && tag != 'U' && tag != 'N') fail("a name that is none");
    const json name = *value(depth);
    return name.is_string() ? name.get<std::string>() : name.dump();
  }

  json properties(unsigned char end, std::size_t depth) {
    json result = json::object();
    std::uint64_t count = 0;
    for (; peek_tag() != end; ++count) {
      auto name = property_name(depth + 1);
      auto member = value(depth + 1);
      if (member) result[std::move(name)] = std::move(*member);
    }
    next_tag();
    if (varint() != count) fail("an object with another number of members than it says");
    return result;
  }

  json dense_array(std::size_t depth) {
    const auto size = varint();
    if (size > bytes_.size() - at_) fail("an array is cut off");
    json result = json::array();
    for (std::uint64_t index = 0; index < size; ++index) result.push_back(value(depth + 1).value_or(json()));
    properties('$', depth);  // which an array has beside its elements, and JSON leaves out
    if (varint() != size) fail("an array of another length than it says");
    return result;
  }

  json sparse_array(std::size_t depth) {
    const auto size = varint();
    const json elements = properties('@', depth);
    if (varint() != size) fail("an array of another length than it says");
    if (size > 16 * bytes_.size() + 1024 || size > work_) fail("an array of many holes");
    work_ -= static_cast<std::size_t>(size);
    json result = json::array();
    for (std::uint64_t index = 0; index < size; ++index) result.push_back(nullptr);
    for (const auto& [name, element] : elements.items()) {
      const bool is_index = !name.empty() && name.size() < 10 && name.find_first_not_of("0123456789") == name.npos;
      const std::size_t index = is_index ? std::stoul(name) : result.size();
      if (index < result.size()) result[index] = element;
    }
    return result;
  }

  json date() {
    const double time = floating();
    if (!(std::abs(time) <= 8.64e15)) return nullptr;
    return iso_date(static_cast<std::int64_t>(time));
  }

  json set(std::size_t depth) {
    json result = json::array();
    while (peek_tag() != ',') result.push_back(value(depth + 1).value_or(json()));
    next_tag();
    if (varint() != result.size()) fail("a set of another size than it says");
    return result;
  }

  json map(std::size_t depth) {
    json result = json::array();
    while (peek_tag() != ':') {
      json pair = json::array();
      pair.push_back(value(depth + 1).value_or(json()));
      pair.push_back(value(depth + 1).value_or(json()));
      result.push_back(std::move(pair));
    }
    next_tag();
    if (varint() != result.size() * 2) fail("a map of another size than it says");
    return result;
  }

  json bytes_of(v8_buffer kind) {
    const auto raw = sized("a buffer");
    return json::binary(std::vector<std::uint8_t>(raw.begin(), raw.end()), static_cast<std::uint8_t>(kind));
  }

  /// What Node writes by itself: a view of bytes, or a copy of an object of a kind that V8 does not know.
  std::optional<json> host_object(std::size_t depth) {
    const auto what = varint();
    if (what == 1) return value(depth + 1);
    const auto kind = what == 0 ? varint() : 255;
    if (kind > static_cast<std::uint64_t>(v8_buffer::big_uint64_array)) fail("a host object of no known kind");
    return bytes_of(static_cast<v8_buffer>(kind));
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
  std::size_t work_;  // bytes that may still be read: what is referred to is read more than once
  std::size_t next_id_ = 0;
  std::vector<object> objects_;
};

COHORT_INLINE json from_v8(std::string_view bytes) { return v8_reader(bytes).message(); }

}  // namespace cohort::detail
