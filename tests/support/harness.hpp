// SPDX-License-Identifier: BSL-1.0
/// What every test stands on.
///
///     namespace cohort::test::event_test {                           // the file's own: several are one unit
///
///     ASYNC_TEST("an event that is set lets a wait through") {       // a coroutine on an io_context of its own
///       event ready(co_await asio::this_coro::executor);
///       ready.set();
///       co_await ready.wait();
///       CHECK(ready.is_set());
///     }
///
///     PLAIN_TEST("an empty descriptor is false") {                   // an ordinary function
///       CHECK_FALSE(descriptor());
///     }
///
///     }  // namespace cohort::test::event_test
///
/// Both forms fail unless the process ends the test with the descriptors it began with and without a child, alive or
/// dead. ASYNC_TEST also fails when the coroutine does not finish within `patience`; what it has started in the
/// background is destroyed with its io_context, before descriptors are counted.
///
/// doctest in coroutines: an assertion macro is a lambda inside, so no `co_await` may stand in it. Await first, then
/// assert: `const auto item = co_await q.pop(); CHECK(item == 3);`. For an awaited exception use `error_of` below.
/// REQUIRE throws and ends the coroutine that it stands in; in a detached one it counts as a failure and ends only that
/// one. Keep INFO and CAPTURE in scopes without `co_await`: their stack is not one per coroutine. SUBCASE works in the
/// coroutine of the test itself.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <system_error>
#include <utility>

#include "../../include/cohort/core/asio.hpp"
#include "../../include/cohort/core/asio_error.hpp"
#include "doctest.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COHORT_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COHORT_TEST_SANITIZED 1
#endif
#endif

#if defined(COHORT_TEST_SANITIZED)
#undef COHORT_TEST_SANITIZED
#define COHORT_TEST_SANITIZED true
#else
#define COHORT_TEST_SANITIZED false
#endif

namespace cohort::test {

using namespace std::chrono_literals;

inline constexpr bool sanitized = COHORT_TEST_SANITIZED;

/// How long a test may take before it counts as hanging. Never a measure of speed.
inline constexpr std::chrono::seconds patience = sanitized ? 60s : 40s;

/// Runs a coroutine to its end on an io_context of its own, rethrows what it throws and checks what it leaves behind.
/// `after_each_turn` is called after each handler that the context has run.
void run_isolated(const std::function<asio::awaitable<void>()>& body,
                  const std::function<void()>& after_each_turn = nullptr);

/// Calls a function and checks what it leaves behind.
void run_plain(const std::function<void()>& body);

/// The path of the helper executable, whose verbs (see tests/verbs) play the part of child processes.
std::string helper_path();

/// Waits until `predicate()` holds; false when it still does not after `limit`. Looks every millisecond.
template <class Predicate>
asio::awaitable<bool> eventually(Predicate predicate, std::chrono::milliseconds limit = patience / 2) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!predicate()) {
    if (std::chrono::steady_clock::now() >= end) co_return false;
    timer.expires_after(1ms);
    co_await timer.async_wait(asio::use_awaitable);
  }
  co_return true;
}

/// Lets everything run that is ready by now, `turns` times.
inline asio::awaitable<void> yield(int turns = 1) {
  const auto executor = co_await asio::this_coro::executor;
  for (int turn = 0; turn < turns; ++turn) co_await asio::post(executor, asio::use_awaitable);
}

inline asio::awaitable<void> sleep(std::chrono::milliseconds time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::use_awaitable);
}

/// The code of the std::system_error that an operation throws; none when it succeeds. Other exceptions go through.
template <class T>
asio::awaitable<std::error_code> error_of(asio::awaitable<T> operation) {
  try {
    co_await std::move(operation);
  } catch (...) {
    co_return detail::caught().code();
  }
  co_return std::error_code();
}

/// The text of the exception that an operation throws; empty when it succeeds.
template <class T>
asio::awaitable<std::string> text_of(asio::awaitable<T> operation) {
  try {
    co_await std::move(operation);
  } catch (const std::exception& error) {
    co_return std::string(error.what());
  }
  co_return std::string();
}

}  // namespace cohort::test

#define ASYNC_TEST_NAMED(function, name)                       \
  static ::cohort::asio::awaitable<void> function();                   \
  TEST_CASE(name) { ::cohort::test::run_isolated(&function); } \
  static ::cohort::asio::awaitable<void> function()

#define PLAIN_TEST_NAMED(function, name)                    \
  static void function();                                   \
  TEST_CASE(name) { ::cohort::test::run_plain(&function); } \
  static void function()

#define ASYNC_TEST(name) ASYNC_TEST_NAMED(DOCTEST_ANONYMOUS(async_test_), name)
#define PLAIN_TEST(name) PLAIN_TEST_NAMED(DOCTEST_ANONYMOUS(plain_test_), name)
