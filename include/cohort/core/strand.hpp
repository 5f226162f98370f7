// SPDX-License-Identifier: BSL-1.0
/// How an operation that runs coroutines or timers beside itself keeps them from running at the same time: they all run
/// on one strand, whatever the executor of the caller is.
#pragma once

#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "asio.hpp"

namespace cohort::detail {

/// A strand of its own on top of any executor.
inline asio::any_io_executor new_strand(const asio::any_io_executor& executor) { return asio::make_strand(executor); }

/// One operation on a strand, and the caller's hold on it. Touched on the strand alone while the operation runs.
struct strand_run {
  explicit strand_run(const asio::any_io_executor& on) : strand(on), timer(on) {}

  asio::any_io_executor strand;
  asio::steady_timer timer;
  asio::cancellation_signal cancel;
  std::exception_ptr failure;
  bool ended = false;
  bool expired = false;  // the limit has cancelled it
};

/// Runs `operation` on the strand, cancels it after `limit`, and returns when it has ended: its failure is in the
/// state.
///
/// A cancellation of the caller goes to the operation, on the strand. Nothing is thrown here for it, because the
/// operation may have succeeded before it hears of it.
asio::awaitable<void> run_to_end(std::shared_ptr<strand_run> state, asio::awaitable<void> operation,
                                 std::optional<std::chrono::nanoseconds> limit);

template <class T>
asio::awaitable<void> keep_result(asio::awaitable<T> operation, std::optional<T>& result) {
  result.emplace(co_await std::move(operation));
}

/// Runs `operation` on a strand, and returns or throws what it does. Cancelling cancels the operation.
template <class T>
asio::awaitable<T> run_on(asio::any_io_executor strand, asio::awaitable<T> operation) {
  const auto state = std::make_shared<strand_run>(strand);
  if constexpr (std::is_void_v<T>) {
    co_await run_to_end(state, std::move(operation), std::nullopt);
    if (state->failure) std::rethrow_exception(state->failure);
  } else {
    std::optional<T> result;
    co_await run_to_end(state, keep_result(std::move(operation), result), std::nullopt);
    if (state->failure) std::rethrow_exception(state->failure);
    co_return std::move(*result);
  }
}

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "strand.ipp"
#endif
