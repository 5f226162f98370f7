// SPDX-License-Identifier: BSL-1.0
// The part of codec.hpp that knows the standard library's strings, arrays and containers. Include codec.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
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
    out.part(from, count * sizeof(T));
  } else if constexpr (raw<T>) {
    char* to = out.grow(count * codec<T>::fixed_size);
    for (std::size_t i = 0; i < count; ++i) to = codec<T>::store(to, from[i]);
  } else {
    for (std::size_t i = 0; i < count; ++i) encode_part(out, from[i]);
  }
}

/// Makes `to` the `count` elements whose memory the bytes at `from` are. They need not be aligned; and unlike resize()
/// and memcpy, this does not write large memory twice.
template <class Vector>
void assign_bulk(Vector& to, const char* from, std::size_t count) {
  using T = typename Vector::value_type;
  if (from == reinterpret_cast<const char*>(to.data())) return;  // read from the socket to where it belongs
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
  using in_place = Array;
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
  static constexpr std::uint64_t shape_in(auto around) {
    return shape_of_kind(kind::array, Count, shape_of<T>(around));
  }
  static constexpr std::uint64_t shape() { return shape_in(detail::type_list<>()); }
};

/// What a container allocates for an element beside the element: links, and the allocator's own.
inline constexpr std::size_t node_size = 40;

/// Checks the keys that are about to be put into a container, before they are.
template <class Container>
class key_watch {
 public:
  key_watch(Container&, std::size_t) {}
  template <class Key>
  void check(const Key&) {}
};

/// Of a hash table: counts what lies in each bucket.
template <class Table>
  requires requires(const Table& table) { table.bucket_count(); }
class key_watch<Table> {
 public:
  key_watch(Table& table, std::size_t count) : table_(table), probes_(count) {
    table.reserve(count);  // for all of them, so that no bucket is divided
    buckets_.resize(table.bucket_count());
  }

  template <class Key>
  void check(const Key& key) {
    std::uint32_t& here = buckets_[table_.bucket(key)];
    probes_.take(here++);
  }

 private:
  const Table& table_;
  std::vector<std::uint32_t> buckets_;
  probe_budget probes_;
};

template <class Map>
struct map_codec {
  using key_type = typename Map::key_type;
  using mapped_type = typename Map::mapped_type;
  using in_place = Map;

  static constexpr std::size_t min_size = 4;

  static void encode(writer& out, const Map& value) {
    const auto level = out.descend();
    out.length(value.size());
    for (const auto& [key, mapped] : value) {
      encode_part(out, key);
      encode_part(out, mapped);
    }
  }

  static void decode(reader& in, Map& value) {
    const auto level = in.descend();
    constexpr std::size_t each = min_size_of<key_type>() + min_size_of<mapped_type>();
    static_assert(each > 0, "cohort: elements of a container must take at least one byte each: send a count");
    const std::size_t count = in.length(each, "map");
    in.claim(count, sizeof(typename Map::value_type) + node_size);
    value.clear();
    key_watch<Map> keys(value, count);
    for (std::size_t i = 0; i < count; ++i) {
      key_type key{};
      codec<key_type>::decode(in, key);
      mapped_type mapped{};
      codec<mapped_type>::decode(in, mapped);
      keys.check(key);
      value.emplace_hint(value.end(), std::move(key), std::move(mapped));
      if (value.size() == i) [[unlikely]]
        fail_twice("map");
    }
  }

  static constexpr std::uint64_t shape_in(auto around) {
    return shape_of_kind(kind::map, shape_of<key_type>(around), shape_of<mapped_type>(around));
  }
  static constexpr std::uint64_t shape() { return shape_in(detail::type_list<>()); }
};

template <class Set>
struct set_codec {
  using key_type = typename Set::key_type;
  using in_place = Set;

  static constexpr std::size_t min_size = 4;

  static void encode(writer& out, const Set& value) {
    const auto level = out.descend();
    out.length(value.size());
    for (const auto& key : value) encode_part(out, key);
  }

  static void decode(reader& in, Set& value) {
    const auto level = in.descend();
    const std::size_t count = in.length(element_size<key_type>(), "set");
    in.claim(count, sizeof(key_type) + node_size);
    value.clear();
    key_watch<Set> keys(value, count);
    for (std::size_t i = 0; i < count; ++i) {
      key_type key{};
      codec<key_type>::decode(in, key);
      keys.check(key);
      value.emplace_hint(value.end(), std::move(key));
      if (value.size() == i) [[unlikely]]
        fail_twice("set");
    }
  }

  static constexpr std::uint64_t shape_in(auto around) { return shape_of_kind(kind::set, shape_of<key_type>(around)); }
  static constexpr std::uint64_t shape() { return shape_in(detail::type_list<>()); }
};

}  // namespace detail

template <class Char, class Traits, class Allocator>
struct codec<std::basic_string<Char, Traits, Allocator>> {
  using string = std::basic_string<Char, Traits, Allocator>;
  using in_place = string;

  static constexpr std::size_t min_size = 4;

  static void encode(writer& out, const string& value) {
    out.length(value.size());
    detail::encode_elements(out, value.data(), value.size());
  }

  static void decode(reader& in, string& value) {
    const std::size_t count = in.length(sizeof(Char), "string");
    if constexpr (sizeof(Char) == 1) {
      const auto* const from = reinterpret_cast<const Char*>(in.take(count));
      if (from != value.data()) value.assign(from, count);  // unless it was read to where it belongs
    } else {
      value.resize(count);
      detail::decode_elements(in, value.data(), count);
    }
  }

  static constexpr std::uint64_t shape() { return detail::shape_of_kind(detail::kind::string, codec<Char>::shape()); }
};

template <class T, class Allocator>
struct codec<std::vector<T, Allocator>> {
  using in_place = std::vector<T, Allocator>;
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
      in.claim(count, sizeof(T));
      value.clear();
      value.reserve(in.room_for(count, sizeof(T)));
      const char* from = in.take(count * codec<T>::fixed_size);
      for (std::size_t i = 0; i < count; ++i) from = codec<T>::load(from, value.emplace_back());
    } else {
      const auto level = in.descend();
      in.claim(count, sizeof(T));
      while (value.size() > count) value.pop_back();
      value.reserve(in.room_for(count, sizeof(T)));
      for (T& each : value) codec<T>::decode(in, each);  // which keep their memory
      while (value.size() < count) codec<T>::decode(in, value.emplace_back());
    }
  }

  static constexpr std::uint64_t shape_in(auto around) {
    return detail::shape_of_kind(detail::kind::sequence, detail::shape_of<T>(around));
  }
  static constexpr std::uint64_t shape() { return shape_in(detail::type_list<>()); }
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
      if (rest != 0) [[unlikely]]
        detail::fail_value("padding of a vector<bool>", rest);
    }
  }

  static constexpr std::uint64_t shape() { return detail::shape_of_kind(detail::kind::sequence, codec<bool>::shape()); }
};

template <class T, std::size_t Count>
struct codec<std::array<T, Count>> : detail::array_codec<std::array<T, Count>, T, Count, detail::fixed<T>>,
                                     detail::array_shape<T, Count> {};

template <class T, std::size_t Count>
struct codec<T[Count]> : detail::array_codec<T[Count], T, Count, detail::fixed<T>>, detail::array_shape<T, Count> {};

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

}  // namespace cohort
