// SPDX-License-Identifier: BSL-1.0
/// What may be made inside an await expression: `co_await ch.send(job{1, "x"})`.
///
/// GCC before 13 destroys some temporaries of such an expression twice: aggregates (PR101976, PR99576) and lambdas
/// (PR100611), if their destructor does anything. Functions that return an awaitable refuse them by static_assert.
#pragma once

#include <cstddef>
#include <string_view>
#include <type_traits>

namespace cohort::detail {

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13

/// Whether F is the type of a lambda: GCC calls it `main()::<lambda(int)>`.
template <class F>
consteval bool is_lambda() {
  std::string_view name = __PRETTY_FUNCTION__;  // consteval bool …is_lambda() [with F = …]
  name.remove_suffix(1);
  if (!name.ends_with(")>")) return false;
  std::size_t open = name.size() - 2;
  for (int depth = 1; depth != 0;) {
    const char c = name[--open];
    depth += c == ')' ? 1 : c == '(' ? -1 : 0;
  }
  return name.substr(0, open).ends_with("<lambda");
}

/// For a parameter `M&& message` of a function whose result is awaited.
template <class M>
inline constexpr bool safe_in_await = std::is_lvalue_reference_v<M> || !std::is_aggregate_v<std::remove_cvref_t<M>> ||
                                      std::is_trivially_destructible_v<std::remove_cvref_t<M>>;

/// For a parameter `F&& function` of a function whose result is awaited.
///
/// A lambda that has a name and is given as an rvalue would be safe, but nothing tells it from one that is made inside.
template <class F>
inline constexpr bool safe_callable_in_await =
    std::is_lvalue_reference_v<F> || std::is_trivially_destructible_v<std::remove_cvref_t<F>> ||
    !(std::is_aggregate_v<std::remove_cvref_t<F>> || is_lambda<std::remove_cvref_t<F>>());

#else

template <class M>
inline constexpr bool safe_in_await = true;

template <class F>
inline constexpr bool safe_callable_in_await = true;

#endif

}  // namespace cohort::detail
