// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "timeout.hpp"

#include "config.hpp"

#include <exception>
#include <memory>
#include <system_error>

#include "error.hpp"

namespace cohort::detail {

// Shared with the timer's handler, which may be queued already when the operation ends.
struct timeout_state {
  explicit timeout_state(const asio::any_io_executor& executor) : timer(executor) {}

  asio::steady_timer timer;
  asio::cancellation_signal cancel;
  bool expired = false;
};

COHORT_INLINE asio::awaitable<void> limit_time(asio::awaitable<void> operation, std::chrono::nanoseconds limit) {
  const auto executor = co_await asio::this_coro::executor;
  const auto outer = co_await asio::this_coro::cancellation_state;
  const auto state = std::make_shared<timeout_state>(executor);

  // From here on a cancellation is the operation's to answer: it may have succeeded before it hears of it, and a throw
  // of our own would drop its result.
  const bool throws = co_await asio::this_coro::throw_if_cancelled();
  co_await asio::this_coro::throw_if_cancelled(false);
  if (outer.slot().is_connected()) {
    outer.slot().assign([state](asio::cancellation_type type) { state->cancel.emit(type); });
  }
  state->timer.expires_after(limit);
  state->timer.async_wait([state](std::error_code error) {
    if (error || state->expired) return;
    state->expired = true;
    state->cancel.emit(asio::cancellation_type::terminal);
  });

  std::exception_ptr failure;
  try {
    co_await asio::co_spawn(executor, std::move(operation),
                            asio::bind_cancellation_slot(state->cancel.slot(), asio::use_awaitable));
  } catch (...) {
    failure = std::current_exception();
  }
  const bool expired = std::exchange(state->expired, true);
  state->timer.cancel();
  if (outer.slot().is_connected()) outer.slot().clear();
  co_await asio::this_coro::throw_if_cancelled(throws);

  if (!failure) co_return;
  const bool cancelled = outer.cancelled() != asio::cancellation_type::none;
  if (!expired || cancelled) std::rethrow_exception(failure);
  try {
    std::rethrow_exception(failure);
  } catch (const std::system_error& error) {
    if (error.code() == asio::error::operation_aborted) throw_error("with_timeout", errc::timed_out);
    throw;
  }
}

}  // namespace cohort::detail
