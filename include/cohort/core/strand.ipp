// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "strand.hpp"

#include "config.hpp"

#include <system_error>

namespace cohort::detail {

COHORT_INLINE asio::awaitable<void> run_here(std::shared_ptr<strand_run> state, asio::awaitable<void> operation,
                                             std::optional<std::chrono::nanoseconds> limit) {
  if (limit) {
    state->timer.expires_after(*limit);
    state->timer.async_wait([state](std::error_code error) {
      if (error || state->ended) return;  // it may have been queued already when the operation ended
      state->expired = true;
      state->cancel.emit(asio::cancellation_type::terminal);
    });
  }
  try {
    co_await std::move(operation);
  } catch (...) {
    state->failure = std::current_exception();
  }
  state->ended = true;
  state->timer.cancel();
}

COHORT_INLINE asio::awaitable<void> run_to_end(std::shared_ptr<strand_run> state, asio::awaitable<void> operation,
                                               std::optional<std::chrono::nanoseconds> limit) {
  const auto outer = co_await asio::this_coro::cancellation_state;
  const bool throws = co_await asio::this_coro::throw_if_cancelled();
  co_await asio::this_coro::throw_if_cancelled(false);
  if (outer.slot().is_connected()) {
    outer.slot().assign([state](asio::cancellation_type type) {
      asio::dispatch(state->strand, [state, type] {
        if (!state->ended) state->cancel.emit(type);
      });
    });
  }
  std::exception_ptr failure;
  try {
    co_await asio::co_spawn(state->strand, run_here(state, std::move(operation), limit),
                            asio::bind_cancellation_slot(state->cancel.slot(), asio::use_awaitable));
  } catch (...) {
    failure = std::current_exception();  // cancelled before it began
  }
  // Asio's bookkeeping of the coroutine stands in the signal, and may be in use on the strand until this runs there.
  asio::post(state->strand, [state] {});
  if (outer.slot().is_connected()) outer.slot().clear();
  co_await asio::this_coro::throw_if_cancelled(throws);
  if (failure) std::rethrow_exception(failure);
}

}  // namespace cohort::detail
