// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "../../core/error.hpp"
#include "codec.hpp"
#include "detail/reflect.hpp"
#include "detail/shape.hpp"
#include "../transport/frame.hpp"

namespace cohort {

/// The number that stands for a message type between two programs: it changes with the type's qualified name and with
/// the number, order and types of what it contains, at any depth; not with the names of its members.
///
/// Structs inside a message count by what they contain, whatever their names. Types of namespace std and fundamental
/// types have no name of their own: std::uint64_t is unsigned long or unsigned long long. GCC and Clang come to the
/// same number for every message that is not a template and has a name outside of unnamed namespaces.
template <class T>
constexpr std::uint64_t fingerprint() {
  constexpr std::string_view name = detail::type_name<T>();
  constexpr bool is_named = (std::is_class_v<T> || std::is_enum_v<T>) && !name.starts_with("std::");
  constexpr std::uint64_t result =
      detail::mix(detail::shape_of<T>(detail::type_list<>()), is_named ? detail::hash_text(name) : std::uint64_t{0});
  return result;
}

namespace detail {

template <std::size_t N>
consteval bool all_different(const std::array<std::uint64_t, N>& values) {
  for (std::size_t i = 0; i < N; ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (values[i] == values[j]) return false;
    }
  }
  return true;
}

template <class M, class... T>
struct message_list {
  static_assert((std::is_same_v<T, std::remove_cvref_t<T>> && ...),
                "cohort: a message type is a plain type, without const and reference");

  static constexpr std::size_t size = sizeof...(T);

  template <class U>
  static constexpr bool contains = (std::is_same_v<U, T> || ...);

  template <class U>
    requires contains<U>
  static constexpr std::size_t index_of = position_in<U, T...>();

  static constexpr std::array<std::uint64_t, size> fingerprints{fingerprint<T>()...};
  static constexpr std::array<std::string_view, size> names{type_name<T>()...};

  static_assert(all_different(fingerprints),
                "cohort: two alternatives of a message are the same type, or look the same to the peer: make each a "
                "struct of its own");

  static void decode(std::size_t index, const char* data, std::size_t bytes, std::optional<M>& result,
                     std::span<descriptor> handles = {}) {
    static_cast<void>(((index == index_of<T> ? (decode_as<T>(data, bytes, result, handles), true) : false) || ...));
  }

 private:
  template <class U>
  static void decode_as(const char* data, std::size_t bytes, std::optional<M>& result, std::span<descriptor> handles) {
    if constexpr (std::is_same_v<M, U>) {
      decode_into(data, bytes, result.emplace(), handles);
    } else {
      decode_into(data, bytes, std::get<U>(result.emplace(std::in_place_type<U>)), handles);
    }
  }
};

}  // namespace detail

/// The types that a side of a channel sends or receives: the alternatives of M if it is a std::variant, else M alone.
///
///   - `size`: how many;
///   - `contains<T>`: whether T is one, `index_of<T>`: its place, from 0;
///   - `fingerprints`, `names`: of each, in this order;
///   - `is_single`: M is no variant;
///   - `decode(index, data, bytes, std::optional<M>& result, handles)`: makes `result` the message of the type at `index`
///     (below size) that these bytes, and the descriptors that came along, are. Throws errc::malformed; `result` has any
///     value then.
///
/// It is a compile error when a type stands twice.
template <class M>
struct message_set : detail::message_list<M, M> {
  static constexpr bool is_single = true;
};

template <class... T>
struct message_set<std::variant<T...>> : detail::message_list<std::variant<T...>, T...> {
  static constexpr bool is_single = false;
};

/// The version of frames, encodings and hello that this library speaks.
inline constexpr std::uint16_t wire_version = 1;

/// A message type as one side tells the other of it.
struct announced {
  std::uint64_t fingerprint = 0;
  std::string name;
};

/// The first frame that each side sends.
struct hello {
  std::uint16_t version = wire_version;  ///< first, in every version to come
  std::uint32_t max_message = 0;         ///< the largest message the sender of the hello takes, in bytes
  std::uint16_t flags = 0;               ///< for later; a receiver ignores those it does not know
  std::vector<announced> sends;          ///< a message carries its place in this list
  std::vector<announced> understands;
};

/// What a hello may hold at most. A peer that sends more is malformed.
inline constexpr std::size_t max_announced = 1024;
inline constexpr std::size_t max_announced_name = 256;

/// The hello of the side that sends Out and receives In. Names are cut at max_announced_name, or earlier where there
/// are so many that the hello would not fit into one frame: they serve error messages only.
template <class Out, class In>
hello make_hello(std::uint32_t max_message) {
  static_assert(message_set<Out>::size <= max_announced && message_set<In>::size <= max_announced,
                "cohort: more than 1024 message types in one direction");
  // with each name go its length and the fingerprint, and in front of all the other members
  constexpr std::size_t room = (wire::max_frame - 64) / (message_set<Out>::size + message_set<In>::size) - 12;
  constexpr std::size_t longest = std::min(room, max_announced_name);
  hello mine;
  mine.max_message = max_message;
  for (std::size_t i = 0; i < message_set<Out>::size; ++i) {
    mine.sends.push_back(
        {message_set<Out>::fingerprints[i], std::string(message_set<Out>::names[i].substr(0, longest))});
  }
  for (std::size_t i = 0; i < message_set<In>::size; ++i) {
    mine.understands.push_back(
        {message_set<In>::fingerprints[i], std::string(message_set<In>::names[i].substr(0, longest))});
  }
  return mine;
}

/// The hello that these bytes are. Throws errc::schema_mismatch for one of another wire version, whatever follows it,
/// and errc::malformed.
hello decode_hello(const char* data, std::size_t size);

/// What the two sides of a channel have in common.
struct negotiation {
  std::vector<int> incoming;   ///< by the peer's number of a type it sends: this side's, or -1
  std::vector<char> outgoing;  ///< by this side's number of a type it sends: whether the peer understands it
};

namespace detail {

[[noreturn, gnu::cold, gnu::noinline]] inline void fail_single(const char* we_do, std::string_view ours,
                                                               const char* they_do, const announced& theirs) {
  std::string text = std::string("channel: this side ").append(we_do).append(" ").append(ours);
  text.append(", the peer ").append(they_do).append(" ");
  text.append(theirs.name == ours.substr(0, max_announced_name) ? "one of another shape: its members differ"
                                                                : theirs.name);
  throw_error(text, errc::schema_mismatch);
}

}  // namespace detail

/// Matches the types by fingerprint, for the side that sends Out and receives In.
///
/// A type that only one side has is no error: it cannot be sent. Throws errc::schema_mismatch, naming both, where this
/// side has a single type for a direction and the peer another single one.
template <class Out, class In>
negotiation negotiate(const hello& theirs) {
  using outgoing = message_set<Out>;
  using incoming = message_set<In>;
  negotiation result;
  result.incoming.reserve(theirs.sends.size());
  for (const announced& sent : theirs.sends) {
    int ours = -1;
    for (std::size_t i = 0; i < incoming::size; ++i) {
      if (incoming::fingerprints[i] == sent.fingerprint) ours = static_cast<int>(i);
    }
    if (incoming::is_single && theirs.sends.size() == 1 && ours < 0) {
      detail::fail_single("receives", incoming::names[0], "sends", sent);
    }
    result.incoming.push_back(ours);
  }
  result.outgoing.assign(outgoing::size, false);
  for (std::size_t i = 0; i < outgoing::size; ++i) {
    for (const announced& known : theirs.understands) {
      if (known.fingerprint == outgoing::fingerprints[i]) result.outgoing[i] = true;
    }
    if (outgoing::is_single && theirs.understands.size() == 1 && !result.outgoing[i]) {
      detail::fail_single("sends", outgoing::names[0], "receives", theirs.understands[0]);
    }
  }
  return result;
}

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "schema.ipp"
#endif
