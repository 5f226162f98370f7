// SPDX-License-Identifier: BSL-1.0
// The part of codec.hpp that knows the other types of the standard library. Include codec.hpp.
#pragma once

#include <cerrno>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>

#include "../../../core/error.hpp"
#include "../codec.hpp"

namespace cohort {

namespace detail {

struct visit_tuple {
  template <class T, class F>
  static constexpr void visit(T& value, F&& f) {
    std::apply(f, value);
  }
};

template <class T, class... Member>
struct tuple_codec : product_of<T, visit_tuple, type_list<Member...>> {
  static constexpr std::uint64_t shape_in(auto around) { return tuple_codec::members_shape(kind::tuple, around); }
  static constexpr std::uint64_t shape() { return shape_in(detail::type_list<>()); }
};

/// Whether a value follows.
inline bool decode_flag(reader& in, const char* what) {
  const auto flag = in.get<std::uint8_t>();
  if (flag > 1) [[unlikely]]
    fail_value(what, flag);
  return flag == 1;
}

/// Alternative number I of a variant, which keeps its memory if that is what the variant holds.
template <std::size_t I, class... T>
auto& alternative(std::variant<T...>& value) {
  if (auto* const held = std::get_if<I>(&value)) return *held;
  return value.template emplace<I>();
}

template <class T>
struct path_codec {
  static constexpr std::size_t min_size = 4;

  static void encode(writer& out, const T& value) {
    out.length(value.native().size());
    out.bytes(value.native().data(), value.native().size());
  }

  static void decode(reader& in, T& value) {
    const std::size_t count = in.length(1, "path");
    in.claim(count, sizeof(T) / 2);  // it may keep each of its parts, of two characters or more, as a path
    value = T(std::string(in.take(count), count));
  }

  static constexpr std::uint64_t shape() { return shape_of_kind(kind::path); }
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
  static constexpr std::uint64_t shape_in(auto) { return detail::shape_of_kind(detail::kind::nothing); }
};

template <class T>
struct codec<std::optional<T>> {
  using in_place = std::optional<T>;
  static constexpr std::size_t min_size = 1;

  static void encode(writer& out, const std::optional<T>& value) {
    out.put(static_cast<std::uint8_t>(value.has_value()));
    if (value) detail::encode_part(out, *value);
  }

  static void decode(reader& in, std::optional<T>& value) {
    if (detail::decode_flag(in, "flag of an optional")) {
      codec<T>::decode(in, value ? *value : value.emplace());
    } else {
      value.reset();
    }
  }

  static constexpr std::uint64_t shape_in(auto around) {
    return detail::shape_of_kind(detail::kind::optional, detail::shape_of<T>(around));
  }
  static constexpr std::uint64_t shape() { return shape_in(detail::type_list<>()); }
};

/// May be empty.
template <class T>
  requires(!std::is_array_v<T>)
struct codec<std::unique_ptr<T>> {
  using in_place = std::unique_ptr<T>;
  static constexpr std::size_t min_size = 1;

  static void encode(writer& out, const std::unique_ptr<T>& value) {
    const auto level = out.descend();
    out.put(static_cast<std::uint8_t>(value != nullptr));
    if (value) detail::encode_part(out, *value);
  }

  static void decode(reader& in, std::unique_ptr<T>& value) {
    const auto level = in.descend();
    if (detail::decode_flag(in, "flag of a unique_ptr")) {
      in.claim(1, sizeof(T));
      if (!value) value = std::make_unique<T>();
      codec<T>::decode(in, *value);
    } else {
      value.reset();
    }
  }

  static constexpr std::uint64_t shape_in(auto around) {
    return detail::shape_of_kind(detail::kind::pointer, detail::shape_of<T>(around));
  }
  static constexpr std::uint64_t shape() { return shape_in(detail::type_list<>()); }
};

template <class... T>
struct codec<std::variant<T...>> {
  static_assert(sizeof...(T) <= 255, "cohort: a variant that is sent has at most 255 alternatives");

  using in_place = std::variant<T...>;
  static constexpr std::size_t min_size = 1;

  static void encode(writer& out, const std::variant<T...>& value) {
    if (value.valueless_by_exception()) throw_error("encode: variant without a value", EINVAL);
    out.put(static_cast<std::uint8_t>(value.index()));
    std::visit([&out]<class U>(const U& alternative) { detail::encode_part(out, alternative); }, value);
  }

  static void decode(reader& in, std::variant<T...>& value) {
    const std::size_t index = in.get<std::uint8_t>();
    if (index >= sizeof...(T)) [[unlikely]]
      detail::fail_value("alternative of a variant", index);
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      static_cast<void>(((index == I ? (codec<T>::decode(in, detail::alternative<I>(value)), true) : false) || ...));
    }(std::index_sequence_for<T...>());
  }

  static constexpr std::uint64_t shape_in(auto around) {
    return detail::shape_of_kind(detail::kind::variant, sizeof...(T), detail::shape_of<T>(around)...);
  }
  static constexpr std::uint64_t shape() { return shape_in(detail::type_list<>()); }
};

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
  static constexpr std::uint64_t shape_in(auto) {
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
  static constexpr std::uint64_t shape_in(auto) {
    return detail::shape_of_kind(detail::kind::time_point, detail::clock_number<Clock>(), codec<Duration>::shape());
  }
};

}  // namespace cohort
