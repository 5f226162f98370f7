// SPDX-License-Identifier: BSL-1.0
/// The codecs of numbers, strings, containers and structs: a part of json_codec.hpp.
#pragma once

#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "../../codec/detail/reflect.hpp"
#include "json_path.hpp"
#include "names.hpp"

namespace cohort::detail {

template <class T>
concept has_json_codec = requires(const T& value, const json& from) {
  { json_codec<T>::write(value) } -> std::convertible_to<json>;
  { json_codec<T>::read(from) } -> std::convertible_to<T>;
};

template <class T, template <class...> class Of>
inline constexpr bool is_made_of = false;
template <class... T, template <class...> class Of>
inline constexpr bool is_made_of<Of<T...>, Of> = true;

template <class T>
concept json_byte = std::same_as<T, std::byte> || std::same_as<T, std::uint8_t> || std::same_as<T, char>;

template <class T>
concept json_map = requires {
  typename T::key_type;
  typename T::mapped_type;
};

template <class T>
concept json_range = std::ranges::range<T> && requires(T& to, typename T::value_type each) {
  to.insert(to.end(), std::move(each));
  to.clear();
};

template <class T>
inline constexpr bool is_duration = false;
template <class Number, class Period>
inline constexpr bool is_duration<std::chrono::duration<Number, Period>> = true;

template <class T>
inline constexpr bool is_std_array = false;
template <class T, std::size_t Size>
inline constexpr bool is_std_array<std::array<T, Size>> = true;

template <class>
inline constexpr bool never_json = false;

inline constexpr std::uint64_t max_json_integer = std::uint64_t{1} << 53;

/// The integer type that a character type is like: std::in_range does not take characters.
template <std::integral T>
using integer_like = std::conditional_t<std::is_signed_v<T>, std::make_signed_t<T>, std::make_unsigned_t<T>>;

template <std::integral T>
json write_integer(T of, const json_path& at) {
  const auto value = static_cast<integer_like<T>>(of);
  const bool fits = std::cmp_less_equal(value, max_json_integer) &&
                    std::cmp_greater_equal(value, -static_cast<std::int64_t>(max_json_integer));
  if (!fits) json_overflow(at, std::to_string(value));
  return value;
}

template <std::integral T, class Number>
T integer_within(Number number, const json_path& at) {
  if (!std::in_range<integer_like<T>>(number)) json_mismatch(at, std::to_string(number) + " is out of range");
  return static_cast<T>(number);
}

template <std::integral T>
T read_integer(const json& from, const json_path& at) {
  if (from.is_number_float()) {
    const auto number = from.get<double>();
    constexpr auto most = static_cast<double>(max_json_integer);
    if (number != std::trunc(number)) json_mismatch(at, from.dump() + " is no integer");
    if (!(number >= -most && number <= most)) json_overflow(at, from.dump());
    return integer_within<T>(static_cast<std::int64_t>(number), at);
  }
  if (!from.is_number_integer()) json_mismatch(at, "a number", from);
  if (from.is_number_unsigned()) {
    const auto number = from.get<std::uint64_t>();
    if (number > max_json_integer) json_overflow(at, from.dump());
    return integer_within<T>(number, at);
  }
  const auto number = from.get<std::int64_t>();
  constexpr auto most = static_cast<std::int64_t>(max_json_integer);
  if (number > most || number < -most) json_overflow(at, from.dump());
  return integer_within<T>(number, at);
}

template <class Range>
json write_elements(const Range& value, const json_path& at) {
  json result = json::array();
  std::size_t index = 0;
  for (const auto& each : value) {
    result.push_back(write_at<std::remove_cvref_t<decltype(each)>>(each, at.at(index)));
    ++index;
  }
  return result;
}

/// The key of a map as the name of a member.
template <class Key>
std::string json_key(const Key& key) {
  static_assert(std::integral<Key> || std::convertible_to<const Key&, std::string>,
                "cohort: only maps of strings or integers are objects in JSON");
  if constexpr (std::integral<Key>) {
    return std::to_string(key);
  } else {
    return key;
  }
}

template <class Key>
Key key_of_json(const std::string& name, const json_path& at) {
  if constexpr (std::integral<Key>) {
    Key key{};
    const char* const end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data(), end, key);
    if (parsed.ec != std::errc() || parsed.ptr != end) json_mismatch(at.in(name), "the name is no number of that kind");
    return key;
  } else {
    return Key(name);
  }
}

template <class T>
json write_members(const T& value, const json_path& at) {
  json result = json::object();
  visit_fields(value, [&](const auto&... member) {
    std::size_t index = 0;
    [[maybe_unused]] const auto put = [&](const auto& each) {
      using member_type = std::remove_cvref_t<decltype(each)>;
      const auto name = member_names<T>[index++];
      if constexpr (is_made_of<member_type, std::optional>) {
        if (!each) return;  // as JSON.stringify leaves out what is undefined
      }
      result[std::string(name)] = write_at<member_type>(each, at.in(name));
    };
    (put(member), ...);
  });
  return result;
}

template <class T>
void read_members(const json& from, T& value, const json_path& at) {
  if (!from.is_object()) json_mismatch(at, "an object", from);
  visit_fields(value, [&](auto&... member) {
    std::size_t index = 0;
    [[maybe_unused]] const auto take = [&](auto& each) {
      using member_type = std::remove_cvref_t<decltype(each)>;
      const auto name = member_names<T>[index++];
      const auto found = from.find(name);
      if (found != from.end()) {
        read_at<member_type>(*found, each, at.in(name));
      } else if constexpr (is_made_of<member_type, std::optional> || is_made_of<member_type, std::unique_ptr>) {
        each.reset();
      } else {
        json_mismatch(at.in(name), "missing");
      }
    };
    (take(member), ...);
  });
}

template <class T>
void read_elements(const json& from, T& value, const json_path& at) {
  using element = typename T::value_type;
  value.clear();
  if constexpr (json_byte<element>) {
    if (from.is_binary()) {
      for (const auto each : from.get_binary()) value.insert(value.end(), static_cast<element>(each));
      return;
    }
  }
  if (!from.is_array()) json_mismatch(at, "an array", from);
  std::size_t index = 0;
  for (const auto& each : from) {
    element read{};
    read_at<element>(each, read, at.at(index));
    value.insert(value.end(), std::move(read));
    ++index;
  }
}

/// Arrays of a size that the type has: std::array, pair, tuple.
template <class T>
void read_fixed(const json& from, T& value, const json_path& at) {
  constexpr std::size_t size = std::tuple_size_v<T>;
  if (!from.is_array()) json_mismatch(at, "an array", from);
  if (from.size() != size) {
    json_mismatch(at, "wanted " + std::to_string(size) + " elements, got " + std::to_string(from.size()));
  }
  [&]<std::size_t... Index>(std::index_sequence<Index...>) {
    (read_at<std::tuple_element_t<Index, T>>(from[Index], std::get<Index>(value), at.at(Index)), ...);
  }(std::make_index_sequence<size>());
}

template <class T>
json write_fixed(const T& value, const json_path& at) {
  json result = json::array();
  [&]<std::size_t... Index>(std::index_sequence<Index...>) {
    (result.push_back(write_at<std::tuple_element_t<Index, T>>(std::get<Index>(value), at.at(Index))), ...);
  }(std::make_index_sequence<std::tuple_size_v<T>>());
  return result;
}

}  // namespace cohort::detail
