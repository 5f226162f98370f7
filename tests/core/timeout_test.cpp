// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/core/timeout.hpp"

#include <atomic>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

#include "../../include/cohort/core/event.hpp"
#include "../../include/cohort/core/queue.hpp"
#include "../support/asio.hpp"
#include "../support/cancellation.hpp"
#include "../support/harness.hpp"

namespace cohort::test::timeout_test {
namespace {

constexpr auto soon = 2ms;
constexpr auto far_off = 1h;

asio::awaitable<void> wait_forever() {
  event never(co_await asio::this_coro::executor);
  co_await never.wait();
}

asio::awaitable<int> after_turns(int turns, int result) {
  co_await yield(turns);
  co_return result;
}

// Succeeds with `result`, but only once it has been cancelled.
asio::awaitable<int> succeed_when_cancelled(int result) {
  const auto error = co_await error_of(wait_forever());
  CHECK(error == operation_aborted());
  co_return result;
}

// Operations that end at about the time of their limit.
asio::awaitable<void> race(int times, std::atomic<int>& ended) {
  for (int i = 0; i < times; ++i) {
    const auto code = co_await error_of(with_timeout(sleep(std::chrono::milliseconds(i % 2)), 1ms));
    ended += !code || code == errc::timed_out;
  }
}

}  // namespace

PLAIN_TEST("limits are kept on several threads, with strands and without") {
  std::atomic<int> ended{0};
  asio::thread_pool threads(4);
  for (int i = 0; i < 8; ++i) {
    asio::co_spawn(threads, race(40, ended), asio::detached);
    asio::co_spawn(asio::make_strand(threads), race(40, ended), asio::detached);
    asio::co_spawn(threads, with_timeout(race(40, ended), far_off), asio::detached);
  }
  threads.join();
  CHECK(ended == 24 * 40);
}

ASYNC_TEST("a limit below zero is zero, whatever it is counted in") {
  for (const auto limit : {std::chrono::milliseconds::min(), std::chrono::milliseconds(-1)}) {
    const auto code = co_await error_of(with_timeout(wait_forever(), limit));
    CHECK(code == errc::timed_out);
  }
  const auto hours = co_await error_of(with_timeout(wait_forever(), std::chrono::hours::min()));
  CHECK(hours == errc::timed_out);
}

ASYNC_TEST("an operation that ends in time gives its result") {
  const auto result = co_await with_timeout(after_turns(3, 42), far_off);
  CHECK(result == 42);
  co_await with_timeout(yield(), far_off);
}

ASYNC_TEST("an operation that does not suspend gives its result even with no time at all") {
  const auto result = co_await with_timeout(after_turns(0, 42), 0s);
  CHECK(result == 42);
}

ASYNC_TEST("an operation that takes too long is cancelled and fails with timed_out") {
  const auto error = co_await error_of(with_timeout(wait_forever(), soon));
  CHECK(error == errc::timed_out);
  const auto text = co_await text_of(with_timeout(wait_forever(), soon));
  CHECK(text == "with_timeout: timed out");
}

ASYNC_TEST("a limit may be in any unit, and fractional") {
  const auto error = co_await error_of(with_timeout(wait_forever(), 0.001s));
  CHECK(error == errc::timed_out);
  const auto result = co_await with_timeout(after_turns(2, 1), std::chrono::nanoseconds::max());
  CHECK(result == 1);
}

ASYNC_TEST("an operation that fails in time fails as it would without a limit") {
  auto failing = []() -> asio::awaitable<int> {
    co_await yield();
    throw std::runtime_error("broken");
  };
  const auto text = co_await text_of(with_timeout(failing(), far_off));
  CHECK(text == "broken");
}

ASYNC_TEST("an operation that fails for a reason of its own when its time is over keeps this reason") {
  auto failing = []() -> asio::awaitable<int> {
    const auto error = co_await error_of(wait_forever());
    CHECK(error == operation_aborted());
    throw_error("closing", errc::peer_closed);
  };
  const auto error = co_await error_of(with_timeout(failing(), soon));
  CHECK(error == errc::peer_closed);
}

ASYNC_TEST("a result that comes in the moment in which the time is over is kept") {
  const auto result = co_await with_timeout(succeed_when_cancelled(42), soon);
  CHECK(result == 42);
}

ASYNC_TEST("a result that can only be moved goes through") {
  auto making = []() -> asio::awaitable<std::unique_ptr<int>> {
    co_await yield();
    co_return std::make_unique<int>(42);
  };
  const auto result = co_await with_timeout(making(), far_off);
  CHECK(*result == 42);
}

ASYNC_TEST("an item that arrives as the time of its pop ends is returned or still in the queue") {
  const auto executor = co_await asio::this_coro::executor;
  for (int round = 0; round < 50; ++round) {
    queue<int> numbers(executor, 1);
    asio::steady_timer timer(executor, soon);
    timer.async_wait([&](std::error_code) { numbers.try_push(7); });
    std::optional<int> item;
    auto popping = [&]() -> asio::awaitable<void> { item = co_await with_timeout(numbers.pop(), soon); };
    const auto error = co_await error_of(popping());
    if (error) {
      CHECK(error == errc::timed_out);
      item = co_await numbers.pop();
    }
    CHECK(item == 7);
    CHECK(numbers.size() == 0);
  }
}

ASYNC_TEST("what comes after a limit is not cancelled by it") {
  const auto error = co_await error_of(with_timeout(wait_forever(), soon));
  CHECK(error == errc::timed_out);
  co_await sleep(soon * 2);
  const auto result = co_await with_timeout(after_turns(3, 1), far_off);
  CHECK(result == 1);
  co_await sleep(soon);
}

ASYNC_TEST("the shorter of two nested limits decides, and each keeps what is its own") {
  const auto inner = co_await error_of(with_timeout(with_timeout(wait_forever(), soon), far_off));
  CHECK(inner == errc::timed_out);
  const auto outer = co_await error_of(with_timeout(with_timeout(wait_forever(), far_off), soon));
  CHECK(outer == errc::timed_out);
  const auto result = co_await with_timeout(with_timeout(after_turns(3, 42), far_off), far_off);
  CHECK(result == 42);
  const auto late = co_await with_timeout(with_timeout(succeed_when_cancelled(43), far_off), soon);
  CHECK(late == 43);
}

ASYNC_TEST("cancelling from outside ends as the operation does, not as a timeout") {
  const auto executor = co_await asio::this_coro::executor;
  asio::cancellation_signal cancel;
  std::error_code error;
  int late = 0;
  auto cancelled = [&]() -> asio::awaitable<void> { error = co_await error_of(with_timeout(wait_forever(), far_off)); };
  asio::co_spawn(executor, cancelled(), asio::bind_cancellation_slot(cancel.slot(), asio::detached));
  co_await yield(3);
  cancel.emit(asio::cancellation_type::terminal);
  co_await yield(8);
  CHECK(error == operation_aborted());

  auto succeeding = [&]() -> asio::awaitable<void> {
    late = co_await with_timeout(succeed_when_cancelled(42), far_off);
  };
  asio::co_spawn(executor, succeeding(), asio::bind_cancellation_slot(cancel.slot(), asio::detached));
  co_await yield(3);
  cancel.emit(asio::cancellation_type::terminal);
  co_await yield(8);
  CHECK(late == 42);
}

ASYNC_TEST("a coroutine that is cancelled already does not begin the operation") {
  const auto executor = co_await asio::this_coro::executor;
  asio::cancellation_signal cancel;
  std::error_code error;
  bool begun = false;
  auto operation = [&]() -> asio::awaitable<void> {
    begun = true;
    co_await wait_forever();
  };
  auto body = [&]() -> asio::awaitable<void> {
    error = co_await error_of(wait_forever());
    CHECK(error == operation_aborted());
    error = co_await error_of(with_timeout(operation(), far_off));
  };
  asio::co_spawn(executor, body(), asio::bind_cancellation_slot(cancel.slot(), asio::detached));
  co_await yield(3);
  cancel.emit(asio::cancellation_type::terminal);
  co_await yield(8);
  CHECK(error == operation_aborted());
  CHECK_FALSE(begun);
}

ASYNC_TEST("a limited operation in a loop that never suspends does not use up the stack") {
  int sum = 0;
  for (int round = 0; round < 20'000; ++round) sum += co_await with_timeout(after_turns(0, 1), far_off);
  CHECK(sum == 20'000);
}

PLAIN_TEST("a limited operation can be cancelled at every suspension point and loses nothing") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    queue<int> numbers(executor, 1);
    auto pushing = [&]() -> asio::awaitable<void> {
      co_await yield(4);
      co_await numbers.push(7);
    };
    asio::co_spawn(executor, pushing(), asio::detached);
    auto popped = co_await cancelled(with_timeout(with_timeout(numbers.pop(), far_off), far_off));
    if (!popped) popped = co_await numbers.pop();
    CHECK(**popped == 7);
    CHECK(numbers.size() == 0);
  });
  CHECK(points > 4);
}

PLAIN_TEST("a limited operation goes away with its context, whether its time is over or not") {
  for (const bool expired : {false, true}) {
    CAPTURE(expired);
    bool resumed = false;
    const auto destroyed = std::make_shared<int>();
    {
      asio::io_context context;
      auto body = [&](std::shared_ptr<int>) -> asio::awaitable<void> {
        auto limited = with_timeout(with_timeout(wait_forever(), far_off), expired ? 0ms : 1000ms);
        co_await std::move(limited);
        resumed = true;
      };
      asio::co_spawn(context, body(destroyed), asio::detached);
      context.run_one();
      if (expired) context.run_one();
      CHECK(destroyed.use_count() > 1);
    }
    CHECK(destroyed.use_count() == 1);
    CHECK_FALSE(resumed);
  }
}

}  // namespace cohort::test::timeout_test
