// SPDX-License-Identifier: BSL-1.0
/// Values of C++ as JSON and back.
///
/// | C++                                             | JSON                                                          |
/// |-------------------------------------------------|---------------------------------------------------------------|
/// | bool; numbers; std::string, path                | the same; an integer beyond 2^53 is an error                  |
/// | as_string<T> of a number                        | its digits as a string, of any size                           |
/// | enumeration; chrono duration                    | its number; its count                                         |
/// | struct: plain, without constructors and bases   | an object, with the names of its members (see json_members)   |
/// | optional, unique_ptr                            | the value, or null; a missing member is none                  |
/// | vector, deque, list, set, array, pair, tuple    | an array; bytes also from what came as a Buffer               |
/// | map of strings or integers                      | an object                                                     |
/// | variant                                         | its alternative, an object with the tag (see json_tag)        |
/// | json                                            | itself                                                        |
/// | others                                          | what json_codec<T> makes of them                              |
///
/// Members that a struct does not have are ignored. What does not fit is errc::schema_mismatch with the path,
/// `$.job.from: missing`; an integer that cannot be sent is EOVERFLOW with the path.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

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

/// A value as JSON. Throws EOVERFLOW as above, and what a json_codec throws.
template <class T>
json write_json(const T& value);

/// JSON as a value. Throws errc::schema_mismatch, and errc::unknown_message for a variant of which the tag names no
/// alternative.
template <class T>
T read_json(const json& from);

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

#include "json_values.hpp"
#include "json_variants.hpp"

namespace cohort {

template <class T>
json write_json(const T& value) {
  return detail::write_at(value, {});
}

template <class T>
T read_json(const json& from) {
  T value{};
  detail::read_at(from, value, {});
  return value;
}

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "json_codec.ipp"
#endif
