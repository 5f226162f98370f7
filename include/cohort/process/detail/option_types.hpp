// SPDX-License-Identifier: BSL-1.0
/// What a command's options may be written as, and what it keeps of them.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <ranges>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

namespace cohort::detail {

template <class T>
concept string_like = !std::same_as<T, std::nullptr_t> &&
                      (std::convertible_to<const T&, std::string_view> || std::convertible_to<const T&, std::string>);

template <string_like T>
std::string to_string(const T& text) {
  if constexpr (std::convertible_to<const T&, std::string_view>) {
    return std::string(static_cast<std::string_view>(text));
  } else {
    return text;
  }
}

template <class T>
concept number = std::integral<T> && !std::same_as<T, bool>;

/// A user or a group, by name or by number; wide enough to tell the numbers that there cannot be.
using account = std::variant<std::int64_t, std::string>;

template <class T>
concept account_like = string_like<T> || number<T>;

template <account_like T>
account to_account(const T& who) {
  if constexpr (string_like<T>) {
    return to_string(who);
  } else {
    return static_cast<std::int64_t>(who);
  }
}

template <class Range>
using element = std::remove_cvref_t<std::ranges::range_reference_t<Range>>;

template <class T>
concept option_range = std::ranges::input_range<T> && !string_like<std::remove_cvref_t<T>>;

template <class T>
concept string_range = option_range<T> && string_like<element<T>>;

template <class T>
concept number_range = option_range<T> && number<element<T>>;

template <class T>
concept account_range = option_range<T> && account_like<element<T>>;

template <class T>
concept string_pair_range = option_range<T> && requires(const element<T>& pair) {
  requires string_like<std::remove_cvref_t<decltype(pair.first)>>;
  requires string_like<std::remove_cvref_t<decltype(pair.second)>>;
};

}  // namespace cohort::detail
