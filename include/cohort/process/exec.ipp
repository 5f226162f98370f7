// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "exec.hpp"

#include "../core/config.hpp"

#include <exception>
#include <memory>
#include <utility>

#include "../core/strand.hpp"
#include "detail/execution.hpp"

namespace cohort {

COHORT_INLINE asio::awaitable<output> exec_file(command what, exec_options options) {
  const auto executor = co_await asio::this_coro::executor;
  const auto outer = co_await asio::this_coro::cancellation_state;
  const auto strand = detail::new_strand(executor);  // for the coroutines of the run
  const auto state = std::make_shared<detail::execution>(strand, std::move(options));

  // The run is not cancelled but told, so that it can wait for its coroutines.
  const bool throws = co_await asio::this_coro::throw_if_cancelled();
  co_await asio::this_coro::throw_if_cancelled(false);
  if (outer.slot().is_connected()) {
    outer.slot().assign(
        [state, strand](asio::cancellation_type) { asio::dispatch(strand, [state] { state->abort(); }); });
  }
  std::exception_ptr failure;
  output result;
  try {
    auto ending = asio::co_spawn(strand, detail::execution::run(state, std::move(what)),
                                 asio::bind_cancellation_slot(asio::cancellation_slot(), asio::use_awaitable));
    result = co_await std::move(ending);
  } catch (...) {
    failure = std::current_exception();
  }
  if (outer.slot().is_connected()) outer.slot().clear();
  co_await asio::this_coro::throw_if_cancelled(throws);
  if (failure) std::rethrow_exception(failure);
  co_return result;
}

COHORT_INLINE asio::awaitable<output> exec(std::string script, exec_options options) {
  return exec_file(command::shell(script), std::move(options));
}

}  // namespace cohort
