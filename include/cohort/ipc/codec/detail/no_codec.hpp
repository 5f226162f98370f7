// SPDX-License-Identifier: BSL-1.0
/// Why a type cannot be sent, said by the compiler.
#pragma once

#include <concepts>
#include <type_traits>

namespace cohort::detail {

template <class T>
inline constexpr bool is_shared_ptr = requires(const T& pointer) { pointer.owner_before(pointer); };

template <class T>
inline constexpr bool is_span = std::is_trivially_copyable_v<T> && requires(const T& view) { view.subspan(0); };

template <class T>
inline constexpr bool is_string_view = std::is_trivially_copyable_v<T> && requires(T view) { view.remove_prefix(1); };

/// What is left when no specialisation fits: says what to do instead.
template <class T>
struct no_codec {
  static constexpr bool is_pointer = std::is_pointer_v<T> || std::is_member_pointer_v<T> || std::is_null_pointer_v<T>;
  static constexpr bool is_long_double = std::same_as<T, long double>;

  static_assert(!std::is_const_v<T>, "cohort: what is const cannot be received: drop the const");
  static_assert(!is_pointer, "cohort: a pointer means nothing to another process: send the value or a std::unique_ptr");
  static_assert(!std::is_reference_v<T>, "cohort: a reference cannot be sent: send the value");
  static_assert(!is_string_view<T>, "cohort: a string_view does not own what it shows: use std::string");
  static_assert(!is_span<T>, "cohort: a span does not own what it shows: use std::vector or std::array");
  static_assert(!is_shared_ptr<T>, "cohort: a shared_ptr is not shared by processes: send the value or a unique_ptr");
  static_assert(!is_long_double, "cohort: a long double has no portable form: use double");
  static_assert(!std::is_union_v<T>, "cohort: nothing tells which member of a union is meant: use std::variant");
  static_assert(std::is_const_v<T> || is_pointer || std::is_reference_v<T> || is_string_view<T> || is_span<T> ||
                    is_shared_ptr<T> || is_long_double || std::is_union_v<T>,
                "cohort: not a plain struct, and without a codec: specialise cohort::codec<T> for it");
};

}  // namespace cohort::detail
