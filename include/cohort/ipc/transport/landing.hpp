// SPDX-License-Identifier: BSL-1.0
/// Where a large part of a message is read to without a copy: see channel::receive_into().
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "../codec/codec.hpp"

namespace cohort::detail {

/// A string or vector inside an object that a message of some type is decoded to. In every message of that type it
/// stands at the same place.
struct landing {
  struct room {
    char* data;
    std::size_t count;
  };

  void* object = nullptr;
  std::size_t type = 0;    // the message's number, as the peer counts its types
  std::size_t offset = 0;  // in the message, its u16 type included, of the elements; their number stands before them
  std::size_t each = 1;    // bytes of an element

  /// Makes it hold `least` elements or more, up to `most`, as many as it has memory for, and says where they lie.
  room (*resize)(void* object, std::size_t least, std::size_t most) = nullptr;

  explicit operator bool() const noexcept { return resize != nullptr; }
};

/// The first string or vector in a T whose elements move as they are, if what is before it takes the same number of
/// bytes in every T.
template <class T>
struct large_part {
  static constexpr bool exists = false;
};

template <class Range>
struct large_part_range {
  static constexpr bool exists = true;
  static constexpr std::size_t offset = 4;
  using type = Range;
  static Range& of(Range& value) { return value; }
};

template <class T, class Allocator>
  requires(bulk<T> && sizeof(T) <= 1024 && in_place<std::vector<T, Allocator>>)
struct large_part<std::vector<T, Allocator>> : large_part_range<std::vector<T, Allocator>> {};

template <class Char, class Traits, class Allocator>
  requires(sizeof(Char) == 1 && in_place<std::basic_string<Char, Traits, Allocator>>)
struct large_part<std::basic_string<Char, Traits, Allocator>>
    : large_part_range<std::basic_string<Char, Traits, Allocator>> {};

template <class T>
concept plain_struct =
    in_place<T> && std::is_aggregate_v<T> && std::is_class_v<T> && std::derived_from<codec<T>, struct_codec<T>>;

template <class... Member>
consteval std::size_t first_not_fixed(type_list<Member...>) {
  constexpr bool ends[] = {!fixed<Member>..., true};
  std::size_t at = 0;
  while (!ends[at]) ++at;
  return at;
}

template <std::size_t Number, class... Member>
consteval std::size_t bytes_before(type_list<Member...>) {
  std::size_t bytes = 0, at = 0;
  static_cast<void>(((at++ < Number ? (bytes += min_size_of<Member>(), true) : false) && ...));
  return bytes;
}

template <std::size_t Number, class... Member>
std::tuple_element_t<Number, std::tuple<Member...>> member_of(type_list<Member...>);

template <plain_struct T>
  requires(first_not_fixed(field_types<T>()) < field_types<T>::size)
struct large_part<T> {
  static constexpr std::size_t number = first_not_fixed(field_types<T>());
  using inner = large_part<decltype(member_of<number>(field_types<T>()))>;
  static constexpr bool exists = inner::exists;
  static constexpr std::size_t offset = [] {
    if constexpr (exists) return bytes_before<number>(field_types<T>()) + inner::offset;
    return std::size_t{0};
  }();

  static auto& of(T& value)
    requires exists
  {
    return visit_fields(value,
                        [](auto&... member) -> auto& { return inner::of(std::get<number>(std::tie(member...))); });
  }
};

/// The landing in `object` of a message that the peer numbers `type`; none where a T has no such part.
template <class T>
landing landing_in(T& object, std::size_t type) {
  landing result;
  if constexpr (large_part<T>::exists) {
    using element = typename std::remove_reference_t<decltype(large_part<T>::of(object))>::value_type;
    result.object = &object;
    result.type = type;
    result.offset = 2 + large_part<T>::offset;
    result.each = sizeof(element);
    result.resize = [](void* where, std::size_t least, std::size_t most) {
      auto& range = large_part<T>::of(*static_cast<T*>(where));
      range.resize(std::clamp(range.capacity(), least, most));
      return landing::room{reinterpret_cast<char*>(range.data()), range.size()};
    };
  }
  return result;
}

}  // namespace cohort::detail
