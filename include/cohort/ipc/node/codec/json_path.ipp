// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "json_path.hpp"

#include "../../../core/config.hpp"

#include <cerrno>

#include "../../../core/error.hpp"

namespace cohort::detail {

COHORT_INLINE std::string to_string(const json_path& path) {
  if (path.outer == nullptr) return "$";
  std::string result = to_string(*path.outer);
  if (path.is_element) return result.append("[").append(std::to_string(path.index)).append("]");
  return result.append(".").append(path.member);
}

COHORT_INLINE std::string kind_of_json(const json& value) {
  switch (value.type()) {
    case json::value_t::null: return "null";
    case json::value_t::boolean: return "a boolean";
    case json::value_t::string: return "a string";
    case json::value_t::array: return "an array";
    case json::value_t::object: return "an object";
    case json::value_t::binary: return "a buffer";
    case json::value_t::discarded: return "nothing";
    default: return value.dump();
  }
}

COHORT_INLINE void json_mismatch(const json_path& at, const std::string& what) {
  throw_error(to_string(at) + ": " + what, errc::schema_mismatch);
}

COHORT_INLINE void json_mismatch(const json_path& at, const char* wanted, const json& got) {
  json_mismatch(at, std::string("wanted ") + wanted + ", got " + kind_of_json(got));
}

COHORT_INLINE void json_overflow(const json_path& at, const std::string& number) {
  throw_error(to_string(at) + ": " + number + " is beyond 2^53, which JavaScript's numbers hold (see as_string)",
              EOVERFLOW);
}

COHORT_INLINE void json_unknown(const json_path& at, std::string_view tag, std::string_view name) {
  throw_error(to_string(at.in(tag)) + ": \"" + std::string(name) + "\"", errc::unknown_message);
}

}  // namespace cohort::detail
