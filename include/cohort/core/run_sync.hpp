// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <exception>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "asio.hpp"

namespace cohort {
namespace detail {

/// Whether a T belongs to an execution context, as I/O objects, children and channels do.
template <class T>
inline constexpr bool has_context = requires(T& object) { object.get_executor(); };
template <class T>
inline constexpr bool has_context<std::optional<T>> = has_context<T>;
template <class T, class Allocator>
inline constexpr bool has_context<std::vector<T, Allocator>> = has_context<T>;
template <class... T>
inline constexpr bool has_context<std::tuple<T...>> = (has_context<T> || ...);
template <class A, class B>
inline constexpr bool has_context<std::pair<A, B>> = has_context<A> || has_context<B>;

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
/// no child, no socket (an error of the compiler for whatever has get_executor()). Never call it in a coroutine: the
/// loop of that would stand still.
///
/// Safe to call in several threads.
template <class T>
T run_sync(asio::awaitable<T> operation) {
  static_assert(!detail::has_context<T>,
                "cohort: the result of run_sync() would belong to an execution context that is gone: use it inside one "
                "coroutine (asio::awaitable<exit_status> job() { auto c = co_await spawn(...); co_return co_await "
                "c.wait(); } ... run_sync(job());), or run a loop of your own");
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
