// SPDX-License-Identifier: BSL-1.0
#pragma once

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

#include "../../core/descriptor.hpp"
#include "codec.hpp"
#include "detail/reflect.hpp"
#include "detail/shape.hpp"

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
    reader in(data, bytes, handles);
    decode(index, in, result);
  }

  static void decode(std::size_t index, reader& in, std::optional<M>& result) {
    static_cast<void>(((index == index_of<T> ? (decode_as<T>(in, result), true) : false) || ...));
  }

  /// Replaces `message`, whose memory is used again where it holds the same alternative.
  static void decode(std::size_t index, reader& in, M& message) {
    static_cast<void>(((index == index_of<T> ? (decode_whole(in, as<T>(message)), true) : false) || ...));
  }

  /// `message` as a U, which it becomes if it is another alternative.
  template <class U>
  static U& as(M& message) {
    if constexpr (std::is_same_v<M, U>) {
      return message;
    } else {
      if (U* const held = std::get_if<U>(&message)) return *held;
      return message.template emplace<U>();
    }
  }

 private:
  template <class U>
  static void decode_as(reader& in, std::optional<M>& result) {
    if constexpr (std::is_same_v<M, U>) {
      decode_whole(in, result.emplace());
    } else {
      decode_whole(in, std::get<U>(result.emplace(std::in_place_type<U>)));
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
///   - `decode(index, data, bytes, std::optional<M>& result, handles)`: makes `result` the message of the type at
///     `index` (below size) that these bytes, and the descriptors that came along, are. Throws errc::malformed;
///     `result` has any value then.
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

/// What message_set says of its types, without the types.
struct message_table {
  std::span<const std::uint64_t> fingerprints;
  std::span<const std::string_view> names;
  bool is_single = false;
};

template <class M>
inline constexpr message_table message_table_of{message_set<M>::fingerprints, message_set<M>::names,
                                                message_set<M>::is_single};

namespace detail {

// Of `send<job>(0, 1'000'000)` clang would warn here, and not where it is written.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"
template <class M, class... Arguments>
M make_message(Arguments&&... arguments) {
  return M(std::forward<Arguments>(arguments)...);
}
#pragma GCC diagnostic pop

}  // namespace detail

/// The version of frames, encodings and hello that this library speaks. Two sides of different wire versions do not
/// talk: each gets errc::schema_mismatch, which names both versions, from its first receive() or send().
///
/// What two builds that talk may differ in, if they have one wire version:
///
/// - the compiler, its options, the standard library, Asio, and the version of cohort;
/// - the messages of the program. A message is known by its name and shape. One that only one side knows, because it
///   is new or its members have changed, cannot be sent (errc::unknown_message); the others go on;
/// - the flags in the hello, of which a side ignores those that it does not know.
///
/// Not the byte order nor the machine: both sides are processes of one kernel.
///
/// What the versions of cohort promise: a patch version changes neither the wire version nor a message of the library
/// itself (worker_protocol, the control socket, upgrades). A minor version may, and the changelog says so. A primary
/// and workers of different minor versions are tried by each reload and upgrade, which go back if the new process does
/// not get ready.
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

/// The hello of the side that sends `out` and receives `in`. Names are cut at max_announced_name, or earlier where
/// there are so many that the hello would not fit into one frame: they serve error messages only.
hello make_hello(const message_table& out, const message_table& in, std::uint32_t max_message);

template <class Out, class In>
hello make_hello(std::uint32_t max_message) {
  static_assert(message_set<Out>::size <= max_announced && message_set<In>::size <= max_announced,
                "cohort: more than 1024 message types in one direction");
  return make_hello(message_table_of<Out>, message_table_of<In>, max_message);
}

/// The hello that these bytes are. Throws errc::schema_mismatch for one of another wire version, whatever follows it,
/// and errc::malformed.
hello decode_hello(const char* data, std::size_t size);

/// What the two sides of a channel have in common.
struct negotiation {
  std::vector<int> incoming;   ///< by the peer's number of a type it sends: this side's, or -1
  std::vector<char> outgoing;  ///< by this side's number of a type it sends: whether the peer understands it
};

/// Matches the types by fingerprint, for the side that sends `out` and receives `in`.
///
/// A type that only one side has is no error: it cannot be sent. Throws errc::schema_mismatch, naming both, where this
/// side has a single type for a direction and the peer another single one.
negotiation negotiate(const message_table& out, const message_table& in, const hello& theirs);

template <class Out, class In>
negotiation negotiate(const hello& theirs) {
  return negotiate(message_table_of<Out>, message_table_of<In>, theirs);
}

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "schema.ipp"
#endif
