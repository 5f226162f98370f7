// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/core/queue.hpp"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../support/cancellation.hpp"
#include "../support/harness.hpp"

namespace cohort::test::queue_test {

ASYNC_TEST("a queue gives its items back in their order") {
  queue<int> numbers(co_await asio::this_coro::executor, 3);
  co_await numbers.push(1);
  co_await numbers.push(2);
  CHECK(numbers.try_push(3));
  CHECK(numbers.size() == 3);
  for (int expected = 1; expected <= 3; ++expected) {
    const auto item = co_await numbers.pop();
    CHECK(item == expected);
  }
  CHECK(numbers.size() == 0);
}

ASYNC_TEST("a queue has room for one item at least") {
  queue<int> numbers(co_await asio::this_coro::executor, 0);
  CHECK(numbers.capacity() == 1);
  CHECK(numbers.try_push(1));
}

ASYNC_TEST("a push and a pop that need not wait do not suspend") {
  queue<int> numbers(co_await asio::this_coro::executor, 1);
  bool turned = false;
  asio::post(co_await asio::this_coro::executor, [&] { turned = true; });
  co_await numbers.push(1);
  const auto item = co_await numbers.pop();
  CHECK(item == 1);
  CHECK_FALSE(turned);
  co_await yield();
}

ASYNC_TEST("a full queue refuses an item and leaves it whole") {
  queue<std::string> words(co_await asio::this_coro::executor, 1);
  CHECK(words.try_push("first"));
  std::string second = "second";
  CHECK_FALSE(words.try_push(std::move(second)));
  CHECK(second == "second");
}

ASYNC_TEST("a pop waits for the item that a later push brings") {
  queue<int> numbers(co_await asio::this_coro::executor, 1);
  auto pushing = [&]() -> asio::awaitable<void> {
    co_await yield(3);
    co_await numbers.push(7);
  };
  asio::co_spawn(co_await asio::this_coro::executor, pushing(), asio::detached);
  const auto item = co_await numbers.pop();
  CHECK(item == 7);
}

ASYNC_TEST("a push waits while the queue is full") {
  const auto executor = co_await asio::this_coro::executor;
  queue<int> numbers(executor, 1);
  bool pushed = false;
  auto pushing = [&]() -> asio::awaitable<void> {
    co_await numbers.push(1);
    co_await numbers.push(2);
    pushed = true;
  };
  asio::co_spawn(executor, pushing(), asio::detached);
  co_await yield(3);
  CHECK_FALSE(pushed);
  CHECK(numbers.size() == 1);
  const auto first = co_await numbers.pop();
  CHECK(first == 1);
  co_await yield(3);
  CHECK(pushed);
  const auto second = co_await numbers.pop();
  CHECK(second == 2);
}

ASYNC_TEST("many producers and consumers pass each item on exactly once") {
  const auto executor = co_await asio::this_coro::executor;
  queue<int> numbers(executor, 2);
  constexpr int producers = 5, consumers = 3, each = 20;
  std::vector<int> seen(producers * each, 0);
  int producing = producers, consuming = consumers;
  auto produce = [&](int first) -> asio::awaitable<void> {
    for (int number = first; number < first + each; ++number) co_await numbers.push(number);
    if (--producing == 0) numbers.close();
  };
  auto consume = [&]() -> asio::awaitable<void> {
    while (const auto number = co_await numbers.pop()) ++seen[static_cast<std::size_t>(*number)];
    --consuming;
  };
  for (int i = 0; i < consumers; ++i) asio::co_spawn(executor, consume(), asio::detached);
  for (int i = 0; i < producers; ++i) asio::co_spawn(executor, produce(i * each), asio::detached);
  const bool done = co_await eventually([&] { return consuming == 0; });
  CHECK(done);
  CHECK(seen == std::vector<int>(producers * each, 1));
}

ASYNC_TEST("a closed queue gives out what it holds, then nothing, and takes nothing more") {
  queue<int> numbers(co_await asio::this_coro::executor, 2);
  co_await numbers.push(1);
  numbers.close();
  numbers.close();
  CHECK(numbers.is_closed());
  CHECK_FALSE(numbers.try_push(2));
  const auto error = co_await error_of(numbers.push(2));
  CHECK(error == errc::closed);
  const auto held = co_await numbers.pop();
  CHECK(held == 1);
  const auto end = co_await numbers.pop();
  CHECK_FALSE(end.has_value());
}

ASYNC_TEST("closing an empty queue ends every pop that waits") {
  const auto executor = co_await asio::this_coro::executor;
  queue<int> numbers(executor, 1);
  int ended = 0;
  auto popping = [&]() -> asio::awaitable<void> {
    const auto item = co_await numbers.pop();
    if (!item) ++ended;
  };
  asio::co_spawn(executor, popping(), asio::detached);
  asio::co_spawn(executor, popping(), asio::detached);
  co_await yield(3);
  CHECK(ended == 0);
  numbers.close();
  co_await yield(3);
  CHECK(ended == 2);
}

ASYNC_TEST("closing a full queue fails a push that waits, and its item does not appear") {
  const auto executor = co_await asio::this_coro::executor;
  queue<int> numbers(executor, 1);
  co_await numbers.push(1);
  std::error_code error;
  auto pushing = [&]() -> asio::awaitable<void> { error = co_await error_of(numbers.push(2)); };
  asio::co_spawn(executor, pushing(), asio::detached);
  co_await yield(3);
  numbers.close();
  const auto held = co_await numbers.pop();
  CHECK(held == 1);
  co_await yield(3);
  CHECK(error == errc::closed);
  const auto end = co_await numbers.pop();
  CHECK_FALSE(end.has_value());
}

ASYNC_TEST("a queue carries items that can only be moved") {
  const auto executor = co_await asio::this_coro::executor;
  queue<std::unique_ptr<int>> owners(executor, 1);
  auto pushing = [&]() -> asio::awaitable<void> {
    for (int number = 0; number < 3; ++number) co_await owners.push(std::make_unique<int>(number));
  };
  asio::co_spawn(executor, pushing(), asio::detached);
  for (int number = 0; number < 3; ++number) {
    const auto owner = co_await owners.pop();
    REQUIRE(owner.has_value());
    CHECK(**owner == number);
  }
}

PLAIN_TEST("a pop can be cancelled at every suspension point and takes nothing then") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    queue<std::unique_ptr<int>> owners(executor, 1);
    auto pushing = [&]() -> asio::awaitable<void> {
      co_await yield(2);
      co_await owners.push(std::make_unique<int>(7));
    };
    asio::co_spawn(executor, pushing(), asio::detached);
    auto popped = co_await cancelled(owners.pop());
    if (!popped) popped = co_await owners.pop();
    REQUIRE(popped->has_value());
    CHECK(***popped == 7);
    CHECK(owners.size() == 0);
  });
  CHECK(points > 2);
}

PLAIN_TEST("a push can be cancelled at every suspension point and has put its item in once or not at all") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    queue<int> numbers(executor, 1);
    co_await numbers.push(1);
    std::vector<int> taken;
    auto popping = [&]() -> asio::awaitable<void> {
      co_await yield(2);
      while (const auto number = co_await numbers.pop()) taken.push_back(*number);
    };
    asio::co_spawn(executor, popping(), asio::detached);
    const bool pushed = co_await cancelled(numbers.push(2));
    co_await numbers.push(3);
    numbers.close();
    const bool drained = co_await eventually([&] { return taken.size() == (pushed ? 3u : 2u); });
    CHECK(drained);
    const std::vector<int> with{1, 2, 3}, without{1, 3};
    CHECK(taken == (pushed ? with : without));
  });
  CHECK(points > 2);
}

PLAIN_TEST("an item is not lost when one of two pops that it wakes is cancelled") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    queue<int> numbers(executor, 1);
    std::vector<int> taken;
    auto popping = [&]() -> asio::awaitable<void> {
      const auto number = co_await numbers.pop();
      if (number) taken.push_back(*number);
    };
    asio::co_spawn(executor, popping(), asio::detached);
    asio::post(executor, [&] {
      numbers.try_push(1);
      asio::post(executor, [&] { numbers.try_push(2); });
    });
    const auto popped = co_await cancelled(numbers.pop());
    if (popped && *popped) taken.push_back(**popped);
    while (taken.size() < 2) {
      const auto number = co_await numbers.pop();
      REQUIRE(number.has_value());
      taken.push_back(*number);
    }
    const std::vector<int> both{1, 2};
    CHECK(taken == both);
  });
  CHECK(points > 1);
}

}  // namespace cohort::test::queue_test
