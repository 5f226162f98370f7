// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <optional>
#include <type_traits>
#include <utility>

#include "asio.hpp"
#include "strand.hpp"

namespace cohort {
namespace detail {

/// A limit as a timer can count it, from 0 to 100 years.
template <class Rep, class Period>
constexpr std::chrono::nanoseconds countable(std::chrono::duration<Rep, Period> limit) {
  // Compared in the coarser unit, in which neither overflows.
  constexpr std::chrono::hours longest{24 * 365 * 100};
  if (limit > longest) return longest;
  if (limit < limit.zero()) return std::chrono::nanoseconds(0);
  return std::chrono::duration_cast<std::chrono::nanoseconds>(limit);
}

/// with_timeout() of what has no result.
asio::awaitable<void> limit_time(asio::awaitable<void> operation, std::chrono::nanoseconds limit);

template <class T>
asio::awaitable<T> limit_time_of(asio::awaitable<T> operation, std::chrono::nanoseconds limit) {
  std::optional<T> result;
  co_await limit_time(keep_result(std::move(operation), result), limit);
  co_return std::move(*result);
}

}  // namespace detail

/// Runs `operation` and cancels it when it has not ended after `limit`.
///
/// Throws errc::timed_out if the operation ended because of that. An operation that succeeds all the same, in the very
/// moment in which its time is over, has succeeded: its result is returned, never dropped. Cancelling the whole cancels
/// the operation, and ends as the operation does. A limit that is longer than a timer can count is as good as none, and
/// one below zero is zero: the operation begins, and is cancelled at the first point where it waits.
///
/// The operation runs on a strand of its own on top of the caller's executor, so that on an executor of several threads
/// too the limit and the operation never run at the same time.
template <class T, class Rep, class Period>
asio::awaitable<T> with_timeout(asio::awaitable<T> operation, std::chrono::duration<Rep, Period> limit) {
  const auto within = detail::countable(limit);
  if constexpr (std::is_void_v<T>) {
    return detail::limit_time(std::move(operation), within);
  } else {
    return detail::limit_time_of(std::move(operation), within);
  }
}

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "timeout.ipp"
#endif
