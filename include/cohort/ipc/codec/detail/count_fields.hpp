// SPDX-License-Identifier: BSL-1.0
/// How many members a struct has, found out by what it can be made of.
#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>

namespace cohort::detail {

/// The most fields a struct that is sent may have.
inline constexpr std::size_t max_fields = 64;

template <class... T>
struct type_list {
  static constexpr std::size_t size = sizeof...(T);
};

/// The place of the first T among In, or their number.
template <class T, class... In>
consteval std::size_t position_in() {
  constexpr bool same[] = {std::is_same_v<T, In>..., true};
  std::size_t at = 0;
  while (!same[at]) ++at;
  return at;
}

/// Stands for an initializer of unknown type: converts to anything but T itself, so that `T{x}` is never a copy.
/// The conversion is const, which makes a greedy converting constructor (std::optional's) the better match and not an
/// ambiguous one.
template <class T>
struct any_but {
  template <class U>
    requires(!std::same_as<U, T>)
  constexpr operator U() const {
    throw 0;  // defined, because both compilers warn of one that is not; never called
  }
};

/// Converts to the bases of T only. Not copyable, so that a std::any does not take it in.
template <class T>
struct any_base_of {
  any_base_of() = default;
  any_base_of(const any_base_of&) = delete;

  template <class U>
    requires(std::is_base_of_v<U, T> && !std::same_as<U, T>)
  constexpr operator U() const {
    throw 0;
  }
};

template <class T, std::size_t>
using any_at = any_but<T>;

template <class T>
concept derived_aggregate = requires { T{any_base_of<T>()}; };

/// `T{any x N}`: an array member takes one initializer per element here (braces are elided).
template <class T, std::size_t N>
consteval bool takes() {
  return []<std::size_t... I>(std::index_sequence<I...>) {
    return requires { T{any_at<T, I>{}...}; };
  }(std::make_index_sequence<N>());
}

/// `T{any x Before, {}, any x After}`: the braces stand for one whole member, array or not.
template <class T, std::size_t Before, std::size_t After>
consteval bool takes_braced() {
  return []<std::size_t... B, std::size_t... A>(std::index_sequence<B...>, std::index_sequence<A...>) {
    return requires { T{any_at<T, B>{}..., {}, any_at<T, A>{}...}; };
  }(std::make_index_sequence<Before>(), std::make_index_sequence<After>());
}

/// The largest N with takes<T, N>(), given that takes<T, Low>() and not takes<T, High>(). High = 0: not known yet.
template <class T, std::size_t Low = 0, std::size_t High = 0>
consteval std::size_t count_initializers() {
  if constexpr (High == 0) {
    constexpr std::size_t next = Low == 0 ? 1 : Low * 2;
    if constexpr (takes<T, next>()) {
      return count_initializers<T, next, 0>();
    } else {
      return count_initializers<T, Low, next>();
    }
  } else if constexpr (High - Low == 1) {
    return Low;
  } else if constexpr (takes<T, Low + (High - Low) / 2>()) {
    return count_initializers<T, Low + (High - Low) / 2, High>();
  } else {
    return count_initializers<T, Low, Low + (High - Low) / 2>();
  }
}

/// How many of the Total initializers belong to the member that begins at initializer At; between Low and High.
template <class T, std::size_t At, std::size_t Total, std::size_t Low, std::size_t High>
consteval std::size_t extent_at() {
  if constexpr (Low == High) {
    return Low;
  } else if constexpr (takes_braced<T, At, Total - At - (Low + (High - Low) / 2)>()) {
    return extent_at<T, At, Total, Low, Low + (High - Low) / 2>();
  } else {
    return extent_at<T, At, Total, Low + (High - Low) / 2 + 1, High>();
  }
}

template <class T, std::size_t Total, std::size_t At = 0>
consteval std::size_t count_members() {
  if constexpr (At >= Total) {
    return 0;
  } else if constexpr (takes_braced<T, At, Total - At - 1>() || !takes_braced<T, At, 0>()) {
    return 1 + count_members<T, Total, At + 1>();
  } else {
    return 1 + count_members<T, Total, At + extent_at<T, At, Total, 2, Total - At>()>();
  }
}

template <class T>
consteval std::size_t count_fields() {
  static_assert(std::is_aggregate_v<T> && std::is_class_v<T>, "cohort: only a struct without constructors has fields");
  static_assert(!derived_aggregate<T>,
                "cohort: a struct with a base class is not taken apart: make the base a member, or specialise "
                "cohort::codec<T>");
  static_assert(requires { T{}; },
                "cohort: a struct that is sent must be constructible as T{}: no reference members, and a default for "
                "every member");
  if constexpr (std::is_empty_v<T>) {
    return 0;
  } else {
    constexpr std::size_t count = count_members<T, count_initializers<T>()>();
    static_assert(count <= max_fields, "cohort: more than 64 fields: group some of them in a struct of their own");
    return count;
  }
}

/// The number of members of the struct T (0 to 64; an array or a nested struct is one). A member that is an array of
/// thousands of elements costs seconds of compilation: make it a std::array.
template <class T>
inline constexpr std::size_t field_count = count_fields<std::remove_cv_t<T>>();

}  // namespace cohort::detail
