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

#include "../json.hpp"
#include "json_path.hpp"
#include "json_values.hpp"
#include "json_variants.hpp"
#include "names.hpp"

namespace cohort {

/// A value as JSON. Throws EOVERFLOW as above, and what a json_codec throws.
template <class T>
json write_json(const T& value) {
  return detail::write_at(value, {});
}

/// JSON as a value. Throws errc::schema_mismatch, and errc::unknown_message for a variant of which the tag names no
/// alternative.
template <class T>
T read_json(const json& from) {
  T value{};
  detail::read_at(from, value, {});
  return value;
}

}  // namespace cohort
