// SPDX-License-Identifier: BSL-1.0
// The part of codec.hpp that knows the standard library's types. Include codec.hpp.
#pragma once

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "../codec.hpp"

namespace cohort {

namespace detail {

/// Elements that take no bytes would let a message of four bytes claim four thousand million of them.
template <class T>
constexpr std::size_t element_size() {
  static_assert(min_size_of<T>() > 0, "cohort: elements of a container must take at least one byte each: send a count");
  return min_size_of<T>();
}

template <class T>
void encode_elements(writer& out, const T* from, std::size_t count) {
  if constexpr (bulk<T>) {
    out.bytes(from, count * sizeof(T));
  } else if constexpr (raw<T>) {
    char* to = out.grow(count * codec<T>::fixed_size);
    for (std::size_t i = 0; i < count; ++i) to = codec<T>::store(to, from[i]);
  } else {
    for (std::size_t i = 0; i < count; ++i) codec<T>::encode(out, from[i]);
  }
}

/// Makes `to` the `count` elements whose memory the bytes at `from` are. They need not be aligned; and unlike resize()
/// and memcpy, this does not write large memory twice.
template <class Vector>
void assign_bulk(Vector& to, const char* from, std::size_t count) {
  using T = typename Vector::value_type;
  if constexpr (alignof(T) == 1) {
    to.assign(reinterpret_cast<const T*>(from), reinterpret_cast<const T*>(from) + count);
  } else {
    constexpr std::size_t block_size = 4096 / sizeof(T);
    to.clear();
    to.reserve(count);
    alignas(T) unsigned char memory[block_size * sizeof(T)];
    const T* block = reinterpret_cast<const T*>(memory);
    for (std::size_t n; count != 0; count -= n) {
      n = count < block_size ? count : block_size;
      std::memcpy(memory, from, n * sizeof(T));
      to.insert(to.end(), block, block + n);
      from += n * sizeof(T);
    }
  }
}

/// Fills elements that exist already.
template <class T>
void decode_elements(reader& in, T* to, std::size_t count) {
  if constexpr (bulk<T>) {
    const char* from = in.take(count * sizeof(T));
    if (count != 0) std::memcpy(static_cast<void*>(to), from, count * sizeof(T));
  } else if constexpr (raw<T>) {
    const char* from = in.take(count * codec<T>::fixed_size);
    for (std::size_t i = 0; i < count; ++i) from = codec<T>::load(from, to[i]);
  } else {
    for (std::size_t i = 0; i < count; ++i) codec<T>::decode(in, to[i]);
  }
}

/// Arrays: Count elements and no length. `Array` is T[Count] or std::array<T, Count>.
template <class Array, class T, std::size_t Count, bool Fixed>
struct array_codec {
  static constexpr std::size_t min_size = min_size_of<T>() * Count;

  static void encode(writer& out, const Array& value) { encode_elements(out, std::data(value), Count); }
  static void decode(reader& in, Array& value) { decode_elements(in, std::data(value), Count); }
};

template <class Array, class T, std::size_t Count>
struct array_codec<Array, T, Count, true> : array_codec<Array, T, Count, false> {
  static constexpr std::size_t fixed_size = codec<T>::fixed_size * Count;
  static constexpr bool is_raw = raw<T>;
  static constexpr bool is_bulk = bulk<T> && Count != 0;

  static char* store(char* to, const Array& value)
    requires is_raw
  {
    if constexpr (is_bulk) {
      std::memcpy(to, &value, sizeof(Array));
      return to + sizeof(Array);
    } else {
      for (const T& each : value) to = codec<T>::store(to, each);
      return to;
    }
  }

  static const char* load(const char* from, Array& value)
    requires is_raw
  {
    if constexpr (is_bulk) {
      std::memcpy(static_cast<void*>(&value), from, sizeof(Array));
      return from + sizeof(Array);
    } else {
      for (T& each : value) from = codec<T>::load(from, each);
      return from;
    }
  }
};

template <class T, std::size_t Count>
struct array_shape {
  static constexpr std::uint64_t shape_in(const enclosing* around) {
    return shape_of_kind(kind::array, Count, shape_of<T>(around));
  }
  static constexpr std::uint64_t shape() { return shape_in(nullptr); }
};

struct visit_tuple {
  template <class T, class F>
  static constexpr void visit(T& value, F&& f) {
    std::apply(f, value);
  }
};

template <class T, class... Member>
struct tuple_codec : product_of<T, visit_tuple, type_list<Member...>> {
  static constexpr std::uint64_t shape_in(const enclosing* around) {
    return tuple_codec::members_shape(kind::tuple, around);
  }
  static constexpr std::uint64_t shape() { return shape_in(nullptr); }
};

/// Whether a value follows.
inline bool decode_flag(reader& in, const char* what) {
  const auto flag = in.get<std::uint8_t>();
  if (flag > 1) [[unlikely]] fail_value(what, flag);
  return flag == 1;
}

template <class Container>
void reserve_for(Container& container, const reader& in, std::size_t count) {
  if constexpr (requires { container.reserve(count); }) {
    container.reserve(in.room_for(count, sizeof(typename Container::value_type)));
  }
}

[[noreturn, gnu::cold, gnu::noinline]] inline void fail_twice(const char* what) {
  fail_decode(std::string(what) + " with the same key twice");
}

template <class Map>
struct map_codec {
  using key_type = typename Map::key_type;
  using mapped_type = typename Map::mapped_type;

  static constexpr std::size_t min_size = 4;

  static void encode(writer& out, const Map& value) {
    const auto level = out.descend();
    out.length(value.size());
    for (const auto& [key, mapped] : value) {
      codec<key_type>::encode(out, key);
      codec<mapped_type>::encode(out, mapped);
    }
  }

  static void decode(reader& in, Map& value) {
    const auto level = in.descend();
    constexpr std::size_t each = min_size_of<key_type>() + min_size_of<mapped_type>();
    static_assert(each > 0, "cohort: elements of a container must take at least one byte each: send a count");
    const std::size_t count = in.length(each, "map");
    value.clear();
    reserve_for(value, in, count);
    for (std::size_t i = 0; i < count; ++i) {
      key_type key{};
      codec<key_type>::decode(in, key);
      mapped_type mapped{};
      codec<mapped_type>::decode(in, mapped);
      value.emplace_hint(value.end(), std::move(key), std::move(mapped));
      if (value.size() == i) [[unlikely]] fail_twice("map");
    }
  }

  static constexpr std::uint64_t shape_in(const enclosing* around) {
    return shape_of_kind(kind::map, shape_of<key_type>(around), shape_of<mapped_type>(around));
  }
  static constexpr std::uint64_t shape() { return shape_in(nullptr); }
};

template <class Set>
struct set_codec {
  using key_type = typename Set::key_type;

  static constexpr std::size_t min_size = 4;

  static void encode(writer& out, const Set& value) {
    const auto level = out.descend();
    out.length(value.size());
    for (const auto& key : value) codec<key_type>::encode(out, key);
  }

  static void decode(reader& in, Set& value) {
    const auto level = in.descend();
    const std::size_t count = in.length(element_size<key_type>(), "set");
    value.clear();
    reserve_for(value, in, count);
    for (std::size_t i = 0; i < count; ++i) {
      key_type key{};
      codec<key_type>::decode(in, key);
      value.emplace_hint(value.end(), std::move(key));
      if (value.size() == i) [[unlikely]] fail_twice("set");
    }
  }

  static constexpr std::uint64_t shape_in(const enclosing* around) {
    return shape_of_kind(kind::set, shape_of<key_type>(around));
  }
  static constexpr std::uint64_t shape() { return shape_in(nullptr); }
};

template <class Clock>
constexpr std::uint64_t clock_number() {
  // By number where compilers spell the name differently (libstdc++ has them in an inline namespace).
  if constexpr (std::same_as<Clock, std::chrono::system_clock>) {
    return 1;
  } else if constexpr (std::same_as<Clock, std::chrono::steady_clock>) {
    return 2;
  } else {
    return hash_text(type_name<Clock>());
  }
}

}  // namespace detail

template <class Char, class Traits, class Allocator>
struct codec<std::basic_string<Char, Traits, Allocator>> {
  using string = std::basic_string<Char, Traits, Allocator>;

  static constexpr std::size_t min_size = 4;

  static void encode(writer& out, const string& value) {
    out.length(value.size());
    detail::encode_elements(out, value.data(), value.size());
  }

  static void decode(reader& in, string& value) {
    const std::size_t count = in.length(sizeof(Char), "string");
    if constexpr (sizeof(Char) == 1) {
      value.assign(reinterpret_cast<const Char*>(in.take(count)), count);
    } else {
      value.resize(count);
      detail::decode_elements(in, value.data(), count);
    }
  }

  static constexpr std::uint64_t shape() { return detail::shape_of_kind(detail::kind::string, codec<Char>::shape()); }
};

template <>
struct codec<std::filesystem::path> {
  static constexpr std::size_t min_size = 4;

  static void encode(writer& out, const std::filesystem::path& value) {
    codec<std::string>::encode(out, value.native());
  }

  static void decode(reader& in, std::filesystem::path& value) {
    const std::size_t count = in.length(1, "path");
    value.assign(std::string(in.take(count), count));
  }

  static constexpr std::uint64_t shape() { return detail::shape_of_kind(detail::kind::path); }
};

template <class T, class Allocator>
struct codec<std::vector<T, Allocator>> {
  static constexpr std::size_t min_size = 4;

  static void encode(writer& out, const std::vector<T, Allocator>& value) {
    out.length(value.size());
    if constexpr (detail::raw<T>) {
      detail::encode_elements(out, value.data(), value.size());
    } else {
      const auto level = out.descend();
      detail::encode_elements(out, value.data(), value.size());
    }
  }

  static void decode(reader& in, std::vector<T, Allocator>& value) {
    const std::size_t count = in.length(detail::element_size<T>(), "vector");
    if constexpr (detail::bulk<T> && sizeof(T) <= 1024) {
      detail::assign_bulk(value, in.take(count * sizeof(T)), count);
    } else if constexpr (detail::raw<T>) {
      value.clear();
      detail::reserve_for(value, in, count);
      const char* from = in.take(count * codec<T>::fixed_size);
      for (std::size_t i = 0; i < count; ++i) from = codec<T>::load(from, value.emplace_back());
    } else {
      const auto level = in.descend();
      value.clear();
      detail::reserve_for(value, in, count);
      for (std::size_t i = 0; i < count; ++i) codec<T>::decode(in, value.emplace_back());
    }
  }

  static constexpr std::uint64_t shape_in(const detail::enclosing* around) {
    return detail::shape_of_kind(detail::kind::sequence, detail::shape_of<T>(around));
  }
  static constexpr std::uint64_t shape() { return shape_in(nullptr); }
};

/// Eight to a byte, the first in the lowest bit; the bits that are left over are zero.
template <class Allocator>
struct codec<std::vector<bool, Allocator>> {
  static constexpr std::size_t min_size = 4;

  static void encode(writer& out, const std::vector<bool, Allocator>& value) {
    out.length(value.size());
    char* to = out.grow((value.size() + 7) / 8);
    for (std::size_t i = 0; i < value.size(); i += 8) {
      unsigned byte = 0;
      for (std::size_t bit = 0; bit < 8 && i + bit < value.size(); ++bit) {
        byte |= static_cast<unsigned>(value[i + bit]) << bit;
      }
      *to++ = static_cast<char>(byte);
    }
  }

  static void decode(reader& in, std::vector<bool, Allocator>& value) {
    const std::size_t count = in.get<std::uint32_t>();
    const char* from = in.take((count + 7) / 8);
    value.resize(count);
    for (std::size_t i = 0; i < count; ++i) value[i] = (static_cast<unsigned char>(from[i / 8]) >> i % 8 & 1) != 0;
    if (count % 8 != 0) {
      const unsigned rest = static_cast<unsigned char>(from[count / 8]) >> count % 8;
      if (rest != 0) [[unlikely]] detail::fail_value("padding of a vector<bool>", rest);
    }
  }

  static constexpr std::uint64_t shape() {
    return detail::shape_of_kind(detail::kind::sequence, codec<bool>::shape());
  }
};

template <class T, std::size_t Count>
struct codec<std::array<T, Count>> : detail::array_codec<std::array<T, Count>, T, Count, detail::fixed<T>>,
                                     detail::array_shape<T, Count> {};

template <class T, std::size_t Count>
struct codec<T[Count]> : detail::array_codec<T[Count], T, Count, detail::fixed<T>>, detail::array_shape<T, Count> {};

template <class... Member>
struct codec<std::tuple<Member...>> : detail::tuple_codec<std::tuple<Member...>, Member...> {};

template <class First, class Second>
struct codec<std::pair<First, Second>> : detail::tuple_codec<std::pair<First, Second>, First, Second> {};

template <>
struct codec<std::monostate> : detail::raw_codec<codec<std::monostate>, std::monostate> {
  static constexpr std::size_t fixed_size = 0;
  static constexpr bool is_bulk = false;

  static char* store(char* to, std::monostate) noexcept { return to; }
  static const char* load(const char* from, std::monostate&) noexcept { return from; }
  static constexpr std::uint64_t shape_in(const detail::enclosing*) {
    return detail::shape_of_kind(detail::kind::nothing);
  }
};

template <class T>
struct codec<std::optional<T>> {
  static constexpr std::size_t min_size = 1;

  static void encode(writer& out, const std::optional<T>& value) {
    out.put(static_cast<std::uint8_t>(value.has_value()));
    if (value) codec<T>::encode(out, *value);
  }

  static void decode(reader& in, std::optional<T>& value) {
    if (detail::decode_flag(in, "flag of an optional")) {
      codec<T>::decode(in, value.emplace());
    } else {
      value.reset();
    }
  }

  static constexpr std::uint64_t shape_in(const detail::enclosing* around) {
    return detail::shape_of_kind(detail::kind::optional, detail::shape_of<T>(around));
  }
  static constexpr std::uint64_t shape() { return shape_in(nullptr); }
};

/// May be empty.
template <class T>
  requires(!std::is_array_v<T>)
struct codec<std::unique_ptr<T>> {
  static constexpr std::size_t min_size = 1;

  static void encode(writer& out, const std::unique_ptr<T>& value) {
    const auto level = out.descend();
    out.put(static_cast<std::uint8_t>(value != nullptr));
    if (value) codec<T>::encode(out, *value);
  }

  static void decode(reader& in, std::unique_ptr<T>& value) {
    const auto level = in.descend();
    if (detail::decode_flag(in, "flag of a unique_ptr")) {
      auto made = std::make_unique<T>();
      codec<T>::decode(in, *made);
      value = std::move(made);
    } else {
      value.reset();
    }
  }

  static constexpr std::uint64_t shape_in(const detail::enclosing* around) {
    return detail::shape_of_kind(detail::kind::pointer, detail::shape_of<T>(around));
  }
  static constexpr std::uint64_t shape() { return shape_in(nullptr); }
};

template <class... T>
struct codec<std::variant<T...>> {
  static_assert(sizeof...(T) <= 255, "cohort: a variant that is sent has at most 255 alternatives");

  static constexpr std::size_t min_size = 1;

  static void encode(writer& out, const std::variant<T...>& value) {
    if (value.valueless_by_exception()) throw_error("encode: variant without a value", EINVAL);
    out.put(static_cast<std::uint8_t>(value.index()));
    std::visit([&out]<class U>(const U& alternative) { codec<U>::encode(out, alternative); }, value);
  }

  static void decode(reader& in, std::variant<T...>& value) {
    const std::size_t index = in.get<std::uint8_t>();
    if (index >= sizeof...(T)) [[unlikely]] detail::fail_value("alternative of a variant", index);
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      static_cast<void>(
          ((index == I ? (codec<T>::decode(in, value.template emplace<I>()), true) : false) || ...));
    }(std::index_sequence_for<T...>());
  }

  static constexpr std::uint64_t shape_in(const detail::enclosing* around) {
    return detail::shape_of_kind(detail::kind::variant, sizeof...(T), detail::shape_of<T>(around)...);
  }
  static constexpr std::uint64_t shape() { return shape_in(nullptr); }
};

template <class Key, class T, class Compare, class Allocator>
struct codec<std::map<Key, T, Compare, Allocator>> : detail::map_codec<std::map<Key, T, Compare, Allocator>> {};

template <class Key, class T, class Hash, class Equal, class Allocator>
struct codec<std::unordered_map<Key, T, Hash, Equal, Allocator>>
    : detail::map_codec<std::unordered_map<Key, T, Hash, Equal, Allocator>> {};

template <class Key, class Compare, class Allocator>
struct codec<std::set<Key, Compare, Allocator>> : detail::set_codec<std::set<Key, Compare, Allocator>> {};

template <class Key, class Hash, class Equal, class Allocator>
struct codec<std::unordered_set<Key, Hash, Equal, Allocator>>
    : detail::set_codec<std::unordered_set<Key, Hash, Equal, Allocator>> {};

template <class Rep, class Period>
struct codec<std::chrono::duration<Rep, Period>>
    : detail::raw_codec<codec<std::chrono::duration<Rep, Period>>, std::chrono::duration<Rep, Period>> {
  using duration = std::chrono::duration<Rep, Period>;

  static constexpr std::size_t fixed_size = codec<Rep>::fixed_size;
  static constexpr bool is_bulk = detail::bulk<Rep> && sizeof(duration) == sizeof(Rep);

  static char* store(char* to, duration value) noexcept { return codec<Rep>::store(to, value.count()); }
  static const char* load(const char* from, duration& value) {
    Rep count{};
    from = codec<Rep>::load(from, count);
    value = duration(count);
    return from;
  }
  static constexpr std::uint64_t shape_in(const detail::enclosing*) {
    return detail::shape_of_kind(detail::kind::duration, Period::num, Period::den, codec<Rep>::shape());
  }
};

/// As the distance from the clock's epoch. A steady_clock is the same for all processes of a machine.
template <class Clock, class Duration>
struct codec<std::chrono::time_point<Clock, Duration>>
    : detail::raw_codec<codec<std::chrono::time_point<Clock, Duration>>, std::chrono::time_point<Clock, Duration>> {
  using time_point = std::chrono::time_point<Clock, Duration>;

  static constexpr std::size_t fixed_size = codec<Duration>::fixed_size;
  static constexpr bool is_bulk = detail::bulk<Duration> && sizeof(time_point) == sizeof(Duration);

  static char* store(char* to, time_point value) noexcept {
    return codec<Duration>::store(to, value.time_since_epoch());
  }
  static const char* load(const char* from, time_point& value) {
    Duration distance{};
    from = codec<Duration>::load(from, distance);
    value = time_point(distance);
    return from;
  }
  static constexpr std::uint64_t shape_in(const detail::enclosing*) {
    return detail::shape_of_kind(detail::kind::time_point, detail::clock_number<Clock>(), codec<Duration>::shape());
  }
};

}  // namespace cohort
