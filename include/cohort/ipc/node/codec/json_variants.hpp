// SPDX-License-Identifier: BSL-1.0
/// The codec of variants, and what chooses the codec of a type: a part of json_codec.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

#include "json_path.hpp"
#include "json_values.hpp"

namespace cohort::detail {

/// Whether a T is written as an object with the members of a struct.
template <class T>
concept json_struct = std::is_class_v<T> && std::is_aggregate_v<T> && !has_json_codec<T> && !is_made_of<T, as_string> &&
                      !is_std_array<T> && !std::same_as<T, json>;

/// Whether an alternative says by a tag what it is: a struct that has no member of that name itself.
template <class T>
constexpr bool has_tag(std::string_view tag) {
  if constexpr (json_struct<T>) {
    const auto& members = member_names<T>;
    return !tag.empty() && std::find(members.begin(), members.end(), tag) == members.end();
  } else {
    return false;
  }
}

template <class Variant, class T>
json write_alternative(const T& value, const json_path& at) {
  json result = write_at<T>(value, at);
  if constexpr (has_tag<T>(json_tag<Variant>)) result[std::string(json_tag<Variant>)] = json_name<T>;
  return result;
}

/// How many of a struct's members an object has.
template <class T>
std::size_t members_in(const json& from) {
  if constexpr (json_struct<T>) {
    if (!from.is_object()) return 0;
    const auto& members = member_names<T>;
    return static_cast<std::size_t>(
        std::count_if(members.begin(), members.end(), [&](std::string_view name) { return from.contains(name); }));
  } else {
    return 0;
  }
}

/// Reads one alternative if it fits; `best` is how many of the members the one that was read has.
template <class T, class... All>
void try_alternative(const json& from, std::variant<All...>& value, std::optional<std::size_t>& best,
                     const json_path& at) {
  if constexpr (!std::same_as<T, json>) {
    const std::size_t members = members_in<T>(from);
    if (best && members <= *best) return;
    try {
      T read{};
      read_at<T>(from, read, at);
      value.template emplace<T>(std::move(read));
      best = members;
    } catch (const std::system_error&) {  // it is another one
    }
  }
}

template <class... T>
void read_variant(const json& from, std::variant<T...>& value, const json_path& at) {
  using variant = std::variant<T...>;
  constexpr std::string_view tag = json_tag<variant>;
  const auto named = tag.empty() || !from.is_object() ? from.end() : from.find(tag);
  const bool is_tagged = (has_tag<T>(tag) || ...) && named != from.end() && named->is_string();
  if (is_tagged) {
    const auto& name = named->template get_ref<const std::string&>();
    const bool found = ((has_tag<T>(tag) && name == json_name<T>
                             ? (read_at<T>(from, value.template emplace<T>(), at), true)
                             : false) ||
                        ...);
    if (found) return;
  }
  std::optional<std::size_t> best;
  if (!is_tagged || !(has_tag<T>(tag) && ...)) {
    const auto by_shape = [&]<class Each>(std::type_identity<Each>) {
      if (!is_tagged || !has_tag<Each>(tag)) try_alternative<Each>(from, value, best, at);
    };
    (by_shape(std::type_identity<T>()), ...);
  }
  if (best) return;
  if constexpr ((std::same_as<T, json> || ...)) {
    value.template emplace<json>(from);
  } else {
    if (is_tagged) json_unknown(at, tag, named->template get_ref<const std::string&>());
    json_mismatch(at, "one of the messages that are known", from);
  }
}

template <class T>
json write_at(const T& value, const json_path& at) {
  if constexpr (std::same_as<T, json>) {
    return value;
  } else if constexpr (has_json_codec<T>) {
    try {
      return json_codec<T>::write(value);
    } catch (const std::system_error&) {
      throw;
    } catch (const std::exception& error) {
      json_mismatch(at, error.what());
    }
  } else if constexpr (std::same_as<T, bool>) {
    return value;
  } else if constexpr (std::integral<T>) {
    return write_integer(value, at);
  } else if constexpr (std::floating_point<T>) {
    return static_cast<double>(value);
  } else if constexpr (std::is_enum_v<T>) {
    return write_integer(static_cast<std::underlying_type_t<T>>(value), at);
  } else if constexpr (is_made_of<T, as_string>) {
    return std::to_string(value.value);
  } else if constexpr (std::same_as<T, std::string> || std::same_as<T, std::filesystem::path>) {
    return std::string(value);
  } else if constexpr (is_duration<T>) {
    return write_at<typename T::rep>(value.count(), at);
  } else if constexpr (std::same_as<T, std::monostate>) {
    return nullptr;
  } else if constexpr (is_made_of<T, std::optional>) {
    return value ? write_at<typename T::value_type>(*value, at) : json();
  } else if constexpr (is_made_of<T, std::unique_ptr>) {
    return value ? write_at<typename T::element_type>(*value, at) : json();
  } else if constexpr (is_made_of<T, std::variant>) {
    if (value.valueless_by_exception()) json_mismatch(at, "a variant without a value");
    return std::visit(
        [&](const auto& each) { return write_alternative<T, std::remove_cvref_t<decltype(each)>>(each, at); }, value);
  } else if constexpr (json_map<T>) {
    json result = json::object();
    for (const auto& [key, each] : value) {
      const std::string name = json_key(key);
      result[name] = write_at<typename T::mapped_type>(each, at.in(name));
    }
    return result;
  } else if constexpr (is_std_array<T> || is_made_of<T, std::pair> || is_made_of<T, std::tuple>) {
    return write_fixed(value, at);
  } else if constexpr (json_range<T>) {
    return write_elements(value, at);
  } else if constexpr (json_struct<T>) {
    return write_members(value, at);
  } else {
    static_assert(never_json<T>,
                  "cohort: this type has no JSON: specialise cohort::json_codec<T>; a handle goes with a "
                  "message by send_handle(), and not in one");
  }
}

template <class T>
void read_text(const json& from, T& value, const json_path& at) {
  if (!from.is_string()) json_mismatch(at, "a string", from);
  value = from.get_ref<const std::string&>();
}

template <class T>
void read_digits(const json& from, T& value, const json_path& at) {
  if (!from.is_string()) json_mismatch(at, "a number as a string", from);
  const auto& text = from.get_ref<const std::string&>();
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end) json_mismatch(at, "\"" + text + "\" is no number of that kind");
}

template <class T>
void read_at(const json& from, T& value, const json_path& at) {
  if constexpr (std::same_as<T, json>) {
    value = from;
  } else if constexpr (has_json_codec<T>) {
    try {
      value = json_codec<T>::read(from);
    } catch (const std::system_error&) {
      throw;
    } catch (const std::exception& error) {
      json_mismatch(at, error.what());
    }
  } else if constexpr (std::same_as<T, bool>) {
    if (!from.is_boolean()) json_mismatch(at, "a boolean", from);
    value = from.get<bool>();
  } else if constexpr (std::integral<T>) {
    value = read_integer<T>(from, at);
  } else if constexpr (std::floating_point<T>) {
    if (from.is_null()) {
      value = std::numeric_limits<T>::quiet_NaN();  // which JSON.stringify makes of NaN and of infinity
    } else {
      if (!from.is_number()) json_mismatch(at, "a number", from);
      value = static_cast<T>(from.get<double>());
    }
  } else if constexpr (std::is_enum_v<T>) {
    value = static_cast<T>(read_integer<std::underlying_type_t<T>>(from, at));
  } else if constexpr (is_made_of<T, as_string>) {
    read_digits(from, value.value, at);
  } else if constexpr (std::same_as<T, std::string> || std::same_as<T, std::filesystem::path>) {
    read_text(from, value, at);
  } else if constexpr (is_duration<T>) {
    typename T::rep count{};
    read_at<typename T::rep>(from, count, at);
    value = T(count);
  } else if constexpr (std::same_as<T, std::monostate>) {
    if (!from.is_null()) json_mismatch(at, "null", from);
  } else if constexpr (is_made_of<T, std::optional>) {
    value.reset();
    if (!from.is_null()) read_at<typename T::value_type>(from, value.emplace(), at);
  } else if constexpr (is_made_of<T, std::unique_ptr>) {
    value.reset();
    if (from.is_null()) return;
    value = std::make_unique<typename T::element_type>();
    read_at<typename T::element_type>(from, *value, at);
  } else if constexpr (is_made_of<T, std::variant>) {
    read_variant(from, value, at);
  } else if constexpr (json_map<T>) {
    if (!from.is_object()) json_mismatch(at, "an object", from);
    value.clear();
    for (const auto& [name, each] : from.items()) {
      typename T::mapped_type read{};
      read_at<typename T::mapped_type>(each, read, at.in(name));
      value.emplace(key_of_json<typename T::key_type>(name, at), std::move(read));
    }
  } else if constexpr (is_std_array<T> || is_made_of<T, std::pair> || is_made_of<T, std::tuple>) {
    read_fixed(from, value, at);
  } else if constexpr (json_range<T>) {
    read_elements(from, value, at);
  } else if constexpr (json_struct<T>) {
    read_members(from, value, at);
  } else {
    static_assert(never_json<T>, "cohort: this type has no JSON: specialise cohort::json_codec<T>");
  }
}

}  // namespace cohort::detail
