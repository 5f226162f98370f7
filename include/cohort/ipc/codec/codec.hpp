// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "byte_buffer.hpp"
#include "byte_stream.hpp"
#include "detail/no_codec.hpp"
#include "detail/reflect.hpp"
#include "detail/shape.hpp"

namespace cohort {

/// How a T is put into a message: specialise it, fully or partly, for a type of your own that is not a plain struct, or
/// for one of another library.
///
///     template <>
///     struct cohort::codec<geo::point> {
///       static void encode(writer& out, const geo::point& p);     // may throw: nothing of the message is kept then
///       static void decode(reader& in, geo::point& p);            // throws errc::malformed for what makes no sense
///       static constexpr std::uint64_t shape();                   // cohort::custom_shape("x, y: f64"), or another's
///       static constexpr std::size_t fixed_size = 16;             // if every value takes so many bytes, or else
///       static constexpr std::size_t min_size = 8;                // at least so many; 1 when neither is given
///     };
///
/// `decode` gets a default-constructed T, or an old value to be replaced. A codec made of others calls
/// `codec<std::string>::encode(out, text)` and so on.
///
/// Known without: bool, numbers but for long double, characters, enumerations with a fixed underlying type, plain
/// structs (no base, no constructor, 64 members at most) of such, arrays, std::string and the other basic_strings,
/// vector, array, optional, variant, tuple, pair, map, set, unordered_map, unordered_set, unique_ptr, monostate,
/// filesystem::path, chrono durations and time_points. Such a type may contain itself by way of a vector, map or
/// unique_ptr. Maps and sets may come in any order; an element that comes twice is malformed.
template <class T>
struct codec;

/// The shape of a codec that is written by hand; `text` states its layout, in any words that change when it does.
constexpr std::uint64_t custom_shape(std::string_view text) {
  return detail::shape_of_kind(detail::kind::custom, detail::hash_text(text));
}

namespace detail {

template <class T>
concept fixed = requires { codec<T>::fixed_size; };

/// Has unchecked `store(char*, const T&)` and `load(const char*, T&)` of fixed_size bytes, each returning what follows.
template <class T>
concept raw = fixed<T> && requires { requires codec<T>::is_raw; };

/// Its memory is its encoding.
template <class T>
concept bulk = raw<T> && requires { requires codec<T>::is_bulk; };

/// What encode() of the library's codec is given lies in the message itself.
template <class T>
concept in_place = requires { requires std::same_as<typename codec<T>::in_place, T>; };

/// Encodes a part of a message. A codec that is written by hand may encode what it has made for that, and which is gone
/// when it returns.
template <class T>
void encode_part(writer& out, const T& value) {
  if constexpr (in_place<T> || fixed<T>) {
    codec<T>::encode(out, value);
  } else {
    auto* const borrowed = out.copy_parts();
    codec<T>::encode(out, value);
    out.borrow_parts(borrowed);
  }
}

template <class T>
constexpr std::size_t min_size_of() {
  if constexpr (fixed<T>) {
    return codec<T>::fixed_size;
  } else if constexpr (requires { codec<T>::min_size; }) {
    return codec<T>::min_size;
  } else {
    return 1;
  }
}

/// The shape of T inside the structs `Around`, a type_list with the innermost first. A struct that is met again inside
/// itself counts as "the one so many levels up": the shape of a recursive type is finite and does not depend on names.
template <class T, class Around>
constexpr std::uint64_t shape_of(Around around) {
  if constexpr (requires { codec<T>::shape_in(around); }) {
    return codec<T>::shape_in(around);
  } else {
    static_assert(
        requires { codec<T>::shape(); }, "cohort: a codec says what it writes: static constexpr std::uint64_t shape()");
    return codec<T>::shape();
  }
}

/// encode, decode and shape of a type whose codec `Self` has store, load, fixed_size and shape_in.
template <class Self, class T>
struct raw_codec {
  static constexpr bool is_raw = true;

  static void encode(writer& out, const T& value) { Self::store(out.grow(Self::fixed_size), value); }
  static void decode(reader& in, T& value) { Self::load(in.take(Self::fixed_size), value); }
  static constexpr std::uint64_t shape() { return Self::shape_in(type_list<>()); }
};

template <class T>
struct number_codec : raw_codec<number_codec<T>, T> {
  static constexpr std::size_t fixed_size = sizeof(T);
  static constexpr bool is_bulk = std::endian::native == std::endian::little || sizeof(T) == 1;

  static char* store(char* to, T value) noexcept {
    store_number(to, value);
    return to + sizeof(T);
  }
  static const char* load(const char* from, T& value) noexcept {
    value = load_number<T>(from);
    return from + sizeof(T);
  }
  static constexpr std::uint64_t shape_in(auto) {
    constexpr bool is_character = std::same_as<T, char> || std::same_as<T, wchar_t> || std::same_as<T, char8_t> ||
                                  std::same_as<T, char16_t> || std::same_as<T, char32_t>;
    return shape_of_kind(is_character                  ? kind::character
                         : std::is_floating_point_v<T> ? kind::floating
                         : std::is_signed_v<T>         ? kind::signed_integer
                                                       : kind::unsigned_integer,
                         sizeof(T));
  }
};

struct bool_codec : raw_codec<bool_codec, bool> {
  static constexpr std::size_t fixed_size = 1;
  static constexpr bool is_bulk = false;

  static char* store(char* to, bool value) noexcept {
    *to = value ? 1 : 0;
    return to + 1;
  }
  static const char* load(const char* from, bool& value) {
    const auto byte = static_cast<unsigned char>(*from);
    if (byte > 1) [[unlikely]]
      fail_value("bool", byte);
    value = byte == 1;
    return from + 1;
  }
  static constexpr std::uint64_t shape_in(auto) { return shape_of_kind(kind::boolean); }
};

template <class T>
struct enum_codec : raw_codec<enum_codec<T>, T> {
  using number = std::underlying_type_t<T>;
  static_assert(
      requires { T{number{}}; },
      "cohort: an enumeration that is sent needs a fixed underlying type: enum color : int { ... }");

  static constexpr std::size_t fixed_size = codec<number>::fixed_size;
  static constexpr bool is_bulk = codec<number>::is_bulk;

  static char* store(char* to, T value) noexcept { return codec<number>::store(to, static_cast<number>(value)); }
  static const char* load(const char* from, T& value) {
    number plain{};
    from = codec<number>::load(from, plain);
    value = static_cast<T>(plain);
    return from;
  }
  static constexpr std::uint64_t shape_in(auto) { return shape_of_kind(kind::enumeration, codec<number>::shape()); }
};

/// The common part of structs, tuples and pairs: members one after the other, with which `Visit::visit(value, f)` calls
/// f.
template <class T, class Visit, class Members, bool Fixed>
struct product_codec;

template <class T, class Visit, class... Member>
struct product_codec<T, Visit, type_list<Member...>, false> {
  using in_place = T;
  static constexpr std::size_t min_size = (min_size_of<Member>() + ... + 0);

  static void encode(writer& out, const T& value) {
    Visit::visit(value, [&](const Member&... member) { (encode_part(out, member), ...); });
  }

  static void decode(reader& in, T& value) {
    Visit::visit(value, [&](Member&... member) { (codec<Member>::decode(in, member), ...); });
  }
};

template <class T, class Visit, class... Member>
struct product_codec<T, Visit, type_list<Member...>, true> {
  static constexpr std::size_t fixed_size = (codec<Member>::fixed_size + ... + 0);
  static constexpr bool is_raw = (raw<Member> && ...);
  static constexpr bool is_bulk = std::is_trivially_copyable_v<T> && (bulk<Member> && ...) && fixed_size == sizeof(T);

  static char* store(char* to, const T& value)
    requires is_raw
  {
    // Member by member while it is small: a wide load of what has just been stored in parts waits until the
    // parts have left the processor's store buffer.
    if constexpr (is_bulk && sizeof(T) > 64) {
      std::memcpy(to, &value, sizeof(T));
      return to + sizeof(T);
    } else {
      Visit::visit(value, [&](const Member&... member) { ((to = codec<Member>::store(to, member)), ...); });
      return to;
    }
  }

  static const char* load(const char* from, T& value)
    requires is_raw
  {
    if constexpr (is_bulk) {
      std::memcpy(static_cast<void*>(&value), from, sizeof(T));
      return from + sizeof(T);
    } else {
      Visit::visit(value, [&](Member&... member) { ((from = codec<Member>::load(from, member)), ...); });
      return from;
    }
  }

  static void encode(writer& out, const T& value) {
    if constexpr (is_bulk && sizeof(T) >= borrowed_ranges::worth_it) {
      out.part(&value, sizeof(T));
    } else if constexpr (is_raw) {
      store(out.grow(fixed_size), value);
    } else {
      product_codec<T, Visit, type_list<Member...>, false>::encode(out, value);
    }
  }

  static void decode(reader& in, T& value) {
    if constexpr (is_raw) {
      load(in.take(fixed_size), value);
    } else {
      product_codec<T, Visit, type_list<Member...>, false>::decode(in, value);
    }
  }
};

/// The first that is made of each member, so that an error names it: `member_is_fixed<job, 2, const char*>` is about
/// the second member of a job.
template <class T, std::size_t Number, class Member>
inline constexpr bool member_is_fixed = sizeof(codec<Member>) != 0 && fixed<Member>;

template <class T, class Members, class Indexes>
inline constexpr bool members_are_fixed = true;

template <class T, class... Member, std::size_t... I>
inline constexpr bool members_are_fixed<T, type_list<Member...>, std::index_sequence<I...>> =
    (member_is_fixed<T, I + 1, Member> && ...);

template <class T, class Visit, class Members>
struct product_of;

template <class T, class Visit, class... Member>
struct product_of<T, Visit, type_list<Member...>>
    : product_codec<T, Visit, type_list<Member...>,
                    members_are_fixed<T, type_list<Member...>, std::index_sequence_for<Member...>>> {
  static constexpr std::uint64_t members_shape(kind what, [[maybe_unused]] auto around) {
    return shape_of_kind(what, sizeof...(Member), shape_of<Member>(around)...);
  }
};

struct visit_struct {
  template <class T, class F>
  static constexpr void visit(T& value, F&& f) {
    visit_fields(value, f);
  }
};

template <class T>
struct struct_codec : product_of<T, visit_struct, field_types<T>> {
  template <class... Outer>
  static constexpr std::uint64_t shape_in(type_list<Outer...>) {
    constexpr std::size_t level = position_in<T, Outer...>();
    if constexpr (level < sizeof...(Outer)) {
      return shape_of_kind(kind::recursion, level + 1);
    } else {
      return struct_codec::members_shape(kind::structure, type_list<T, Outer...>());
    }
  }
  static constexpr std::uint64_t shape() { return shape_in(detail::type_list<>()); }
};

/// std::filesystem::path, known by what it can do: <filesystem> is much to include for those who send no path.
template <class T>
inline constexpr bool is_path = requires(const T& path, std::string text) {
  { path.native() } -> std::same_as<const std::string&>;
  path.lexically_normal().has_root_directory();
  T(std::move(text));
};

template <class T>
struct path_codec;

template <class T>
consteval auto choose_codec() {
  if constexpr (std::is_const_v<T>) {
    return std::type_identity<no_codec<T>>();
  } else if constexpr (std::same_as<T, bool>) {
    return std::type_identity<bool_codec>();
  } else if constexpr (plain_number<T>) {
    return std::type_identity<number_codec<T>>();
  } else if constexpr (std::is_enum_v<T>) {
    return std::type_identity<enum_codec<T>>();
  } else if constexpr (std::is_aggregate_v<T> && std::is_class_v<T>) {
    return std::type_identity<struct_codec<T>>();
  } else if constexpr (is_path<T>) {
    return std::type_identity<path_codec<T>>();
  } else {
    return std::type_identity<no_codec<T>>();
  }
}

}  // namespace detail

// Numbers, enumerations, structs and paths are here and not in partial specialisations, so that any specialisation of a
// user, one that is constrained by a concept too, comes before them.
template <class T>
struct codec : decltype(detail::choose_codec<T>())::type {};

/// Appends `message` to `out`, and the descriptors in it to `handles`. When it throws, `out` is as it was before.
///
/// With `borrowed`, large parts of the message are noted there and not copied.
template <class T>
void encode(byte_buffer& out, const T& message, std::vector<int>* handles = nullptr,
            detail::borrowed_ranges* borrowed = nullptr) {
  writer to(out, handles, borrowed);
  if constexpr (detail::raw<T>) {
    codec<T>::encode(to, message);
  } else {
    const std::size_t before = out.size();
    try {
      detail::encode_part(to, message);
    } catch (...) {
      out.truncate(before);
      throw;
    }
  }
}

/// Replaces `message` by the one that begins where `in` stands. When it throws, `message` has any value.
template <class T>
void decode_into(reader& in, T& message) {
  codec<T>::decode(in, message);
}

namespace detail {

/// As decode_into(), and nothing may be left over.
template <class T>
void decode_whole(reader& in, T& message) {
  codec<T>::decode(in, message);
  if (in.remaining() != 0) [[unlikely]]
    fail_trailing(in.remaining());
  if (in.remaining_handles() != 0) [[unlikely]]
    fail_decode("a handle that no part of the message is");
}

}  // namespace detail

/// Replaces `message` by the one that these bytes and descriptors are, the whole of them: any that are left over are
/// malformed.
template <class T>
void decode_into(const char* data, std::size_t size, T& message, std::span<descriptor> handles = {}) {
  reader in(data, size, handles);
  detail::decode_whole(in, message);
}

/// The message that these bytes are, the whole of them.
template <class T>
T decode(const char* data, std::size_t size) {
  T message{};
  decode_into(data, size, message);
  return message;
}

}  // namespace cohort

#include "detail/container_codecs.hpp"
#include "detail/value_codecs.hpp"
