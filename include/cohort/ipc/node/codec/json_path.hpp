// SPDX-License-Identifier: BSL-1.0
/// What the codecs of JSON share: how a type has one of its own, and where in a message an error is.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "../json.hpp"

namespace cohort {

/// How a T is put into JSON: specialise it for a type of your own that is not a plain struct.
///
///     template <>
///     struct cohort::json_codec<geo::point> {
///       static cohort::json write(const geo::point& p);
///       static geo::point read(const cohort::json& from);   // throws any std::exception for what makes no sense
///     };
template <class T>
struct json_codec;

/// A number that is a string in JSON: for what JavaScript's numbers cannot hold.
///
///     struct job { as_string<std::uint64_t> id; };
template <class T>
struct as_string {
  T value{};

  as_string& operator=(const T& other) {
    value = other;
    return *this;
  }
  constexpr operator T() const { return value; }
};

namespace detail {

/// Where in a message a value is: a list from the inside to the outside, on the stack.
struct json_path {
  const json_path* outer = nullptr;
  std::string_view member = {};
  std::size_t index = 0;
  bool is_element = false;

  json_path in(std::string_view name) const { return {this, name, 0, false}; }
  json_path at(std::size_t which) const { return {this, {}, which, true}; }
};

/// "$.job.from", "$[3].x".
std::string to_string(const json_path& path);

[[noreturn]] void json_mismatch(const json_path& at, const std::string& what);
[[noreturn]] void json_mismatch(const json_path& at, const char* wanted, const json& got);
[[noreturn]] void json_overflow(const json_path& at, const std::string& number);
[[noreturn]] void json_unknown(const json_path& at, std::string_view tag, std::string_view name);

/// "a string", "null"...
std::string kind_of_json(const json& value);

template <class T>
json write_at(const T& value, const json_path& at);

template <class T>
void read_at(const json& from, T& value, const json_path& at);

}  // namespace detail
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "json_path.ipp"
#endif
