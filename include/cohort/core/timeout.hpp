// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "asio.hpp"
#include "error.hpp"

namespace cohort {
namespace detail {

// Shared with the timer's handler, which may be queued already when the operation ends.
struct timeout_state {
  explicit timeout_state(const asio::any_io_executor& executor) : timer(executor) {}

  asio::steady_timer timer;
  asio::cancellation_signal cancel;
  bool expired = false;
};

}  // namespace detail

/// Runs `operation` and cancels it when it has not ended after `limit`.
///
/// Throws errc::timed_out if the operation ended because of that. An operation that succeeds all the same, in the very
/// moment in which its time is over, has succeeded: its result is returned, never dropped. Cancelling the whole cancels
/// the operation, and ends as the operation does. T must be default-constructible: co_spawn completes a failure with
/// T().
template <class T, class Rep, class Period>
asio::awaitable<T> with_timeout(asio::awaitable<T> operation, std::chrono::duration<Rep, Period> limit) {
  const auto executor = co_await asio::this_coro::executor;
  const auto outer = co_await asio::this_coro::cancellation_state;
  const auto state = std::make_shared<detail::timeout_state>(executor);

  // From here on a cancellation is the operation's to answer: it may have succeeded before it hears of it, and a throw
  // of our own would drop its result.
  const bool throws = co_await asio::this_coro::throw_if_cancelled();
  co_await asio::this_coro::throw_if_cancelled(false);
  if (outer.slot().is_connected()) {
    outer.slot().assign([state](asio::cancellation_type type) { state->cancel.emit(type); });
  }
  state->timer.expires_after(std::chrono::duration_cast<asio::steady_timer::duration>(limit));
  state->timer.async_wait([state](std::error_code error) {
    if (error || state->expired) return;
    state->expired = true;
    state->cancel.emit(asio::cancellation_type::terminal);
  });

  std::exception_ptr failure;
  std::conditional_t<std::is_void_v<T>, bool, std::optional<T>> result{};
  try {
    auto ending = asio::co_spawn(executor, std::move(operation),
                                 asio::bind_cancellation_slot(state->cancel.slot(), asio::use_awaitable));
    if constexpr (std::is_void_v<T>) {
      co_await std::move(ending);
    } else {
      result.emplace(co_await std::move(ending));
    }
  } catch (...) {
    failure = std::current_exception();
  }
  const bool expired = std::exchange(state->expired, true);
  state->timer.cancel();
  if (outer.slot().is_connected()) outer.slot().clear();
  co_await asio::this_coro::throw_if_cancelled(throws);

  if (failure) {
    const bool cancelled = outer.cancelled() != asio::cancellation_type::none;
    if (!expired || cancelled) std::rethrow_exception(failure);
    try {
      std::rethrow_exception(failure);
    } catch (const std::system_error& error) {
      if (error.code() == asio::error::operation_aborted) throw_error("with_timeout", errc::timed_out);
      throw;
    }
  }
  if constexpr (!std::is_void_v<T>) co_return std::move(*result);
}

}  // namespace cohort
