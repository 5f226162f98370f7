// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "asio.hpp"

namespace cohort {
namespace detail {

template <class T, class Result>
asio::awaitable<void> store_result(asio::awaitable<T> operation, Result& result) {
  if constexpr (std::is_void_v<T>) {
    co_await std::move(operation);
    result = true;
  } else {
    result.emplace(co_await std::move(operation));
  }
}

}  // namespace detail

/// Runs one operation on an execution context of its own, in this thread, and returns what it returns or throws what it
/// throws. For programs that have no loop: `const auto now = cohort::run_sync(cohort::exec("date"));`.
///
/// Blocks the thread until the operation ends; wrap it in with_timeout for a limit. What the operation has started
/// besides, and what still runs when it has ended, is destroyed with the context, so the result must not belong to one:
/// no child, no socket. Never call it in a coroutine: the loop of that would stand still.
///
/// Safe to call in several threads.
template <class T>
T run_sync(asio::awaitable<T> operation) {
  std::conditional_t<std::is_void_v<T>, bool, std::optional<T>> result{};
  std::exception_ptr failure;
  {
    asio::io_context context(1);
    asio::co_spawn(context, detail::store_result(std::move(operation), result), [&](std::exception_ptr thrown) {
      failure = thrown;
      context.stop();
    });
    context.run();
  }
  if (failure) std::rethrow_exception(failure);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

}  // namespace cohort
