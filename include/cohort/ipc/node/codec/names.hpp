// SPDX-License-Identifier: BSL-1.0
/// What the members of a struct are called in JSON, and how alternatives of a variant are told apart.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "../../codec/detail/reflect.hpp"

namespace cohort {

/// The names of a struct's members in JSON, in order of declaration, where they are not those of C++:
///
///     template <>
///     inline constexpr auto cohort::json_members<job> = cohort::names("from", "to", "class");
///
/// Needed by Clang before 16, which does not tell the names, and free to be used by every compiler. The members are
/// counted against it.
template <class T>
inline constexpr std::nullptr_t json_members = nullptr;

/// The names for json_members.
template <class... Text>
constexpr std::array<std::string_view, sizeof...(Text)> names(const Text&... text) {
  return {std::string_view(text)...};
}

namespace detail {

/// The last part of a qualified name, without what an unnamed namespace or a template adds.
constexpr std::string_view last_part(std::string_view name) {
  const auto arguments = name.find('<');
  if (arguments != name.npos) name = name.substr(0, arguments);
  const auto colon = name.rfind(':');
  return colon == name.npos ? name : name.substr(colon + 1);
}

/// Of which nothing is made: its members have addresses, which a constant expression may name.
template <class T>
struct never_made {
  T value;
};

#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wundefined-var-template"
#pragma clang diagnostic ignored "-Wundefined-internal"
#endif
template <class T>
extern const never_made<T> no_object;

template <auto Member>
constexpr std::string_view member_text() {
  return __PRETTY_FUNCTION__;
}

struct addresses_of {
  template <class... Member>
  constexpr auto operator()(Member&... member) const {
    return std::tuple<Member*...>(&member...);
  }
};

/// A pointer as a template argument of class type, which Clang takes where it does not take one to a part of an object.
template <class Pointer>
struct member_pointer {
  Pointer pointer;
};
template <class Pointer>
member_pointer(Pointer) -> member_pointer<Pointer>;

/// "from" out of "…value.job::from)}]" (GCC) or "…no_object<job>.value.from}]" (Clang).
constexpr std::string_view member_name_in(std::string_view text) {
  std::size_t end = text.rfind('}');
  const auto is_part = [](char c) {
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           static_cast<unsigned char>(c) >= 0x80;
  };
  while (end != 0 && !is_part(text[end - 1])) --end;
  std::size_t begin = end;
  while (begin != 0 && is_part(text[begin - 1])) --begin;
  return text.substr(begin, end - begin);
}

template <class T, std::size_t Index>
constexpr std::string_view member_name() {
#if defined(__clang__) && __clang_major__ < 16
  static_assert(!std::is_same_v<T, T>, "cohort: Clang before 16 does not tell the names of members: declare "
                                       "cohort::json_members<T> = cohort::names(\"...\")");
  return {};
#else
  constexpr auto address = std::get<Index>(visit_fields(no_object<T>.value, addresses_of()));
  return member_name_in(member_text<member_pointer{address}>());
#endif
}
#if defined(__clang__)
#pragma clang diagnostic pop
#endif

template <class T>
constexpr auto make_member_names() {
  constexpr std::size_t count = field_count<T>;
  if constexpr (!std::is_same_v<decltype(json_members<T>), const std::nullptr_t>) {
    static_assert(json_members<T>.size() == count,
                  "cohort: json_members<T> has another number of names than T members");
    return json_members<T>;
  } else {
    return []<std::size_t... Index>(std::index_sequence<Index...>) {
      return std::array<std::string_view, count>{member_name<T, Index>()...};
    }(std::make_index_sequence<count>());
  }
}

template <class T>
inline constexpr auto member_names = make_member_names<T>();

}  // namespace detail

/// What an alternative of a variant has in its tag member: by default its name without namespaces.
///
///     template <>
///     inline constexpr std::string_view cohort::json_name<app::job> = "do";
template <class T>
inline constexpr std::string_view json_name = detail::last_part(detail::type_name<T>());

/// The member that says which alternative of a variant an object is. Empty for none: then the shape alone decides.
///
///     template <>
///     inline constexpr std::string_view cohort::json_tag<protocol::to_child> = "kind";
template <class Variant>
inline constexpr std::string_view json_tag = "type";

}  // namespace cohort
