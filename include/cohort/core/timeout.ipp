// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "timeout.hpp"

#include "config.hpp"

#include <memory>
#include <system_error>

#include "asio_error.hpp"
#include "error.hpp"
#include "strand.hpp"

namespace cohort::detail {

COHORT_INLINE asio::awaitable<void> limit_time(asio::awaitable<void> operation, std::chrono::nanoseconds limit) {
  const auto executor = co_await asio::this_coro::executor;
  const auto outer = co_await asio::this_coro::cancellation_state;
  const auto state = std::make_shared<strand_run>(new_strand(executor));
  co_await run_to_end(state, std::move(operation), limit);
  if (!state->failure) co_return;
  const bool cancelled = outer.cancelled() != asio::cancellation_type::none;
  if (!state->expired || cancelled) std::rethrow_exception(state->failure);
  try {
    std::rethrow_exception(state->failure);
  } catch (...) {
    const auto error = caught();
    if (error.code() == operation_aborted()) throw_error("with_timeout", errc::timed_out);
    throw;
  }
}

}  // namespace cohort::detail
