// SPDX-License-Identifier: BSL-1.0
/// What GCC before 13 miscompiles inside an await expression, so that a library can refuse it.
#pragma once

#include <type_traits>

namespace cohort::detail {

// GCC before 13 destroys an aggregate that is made inside an await expression twice (PR101976, PR99576).
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
template <class M>
inline constexpr bool survives_await = std::is_lvalue_reference_v<M> || !std::is_aggregate_v<std::remove_cvref_t<M>> ||
                                       std::is_trivially_destructible_v<std::remove_cvref_t<M>>;
#else
template <class M>
inline constexpr bool survives_await = true;
#endif

}  // namespace cohort::detail
