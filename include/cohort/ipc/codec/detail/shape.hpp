// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <string_view>

namespace cohort::detail {

/// What a value is on the wire. The numbers enter every fingerprint: never change one, only add.
enum class kind : std::uint64_t {
  boolean = 1,
  signed_integer = 2,
  unsigned_integer = 3,
  floating = 4,
  character = 5,
  enumeration = 6,
  string = 7,
  path = 8,
  sequence = 9,
  array = 10,
  optional = 11,
  pointer = 12,
  variant = 13,
  tuple = 14,
  structure = 15,
  map = 16,
  set = 17,
  duration = 18,
  time_point = 19,
  nothing = 20,
  recursion = 21,
  custom = 22,
  handle = 23,
};

constexpr std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  // A multiplication carries bits only upwards: the shift folds them back.
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 29);
}

constexpr std::uint64_t hash_text(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

template <class... Value>
constexpr std::uint64_t shape_of_kind(kind what, Value... value) {
  std::uint64_t hash = mix(hash_text("cohort"), static_cast<std::uint64_t>(what));
  ((hash = mix(hash, static_cast<std::uint64_t>(value))), ...);
  return hash;
}

}  // namespace cohort::detail
