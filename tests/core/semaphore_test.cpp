// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/core/semaphore.hpp"

#include <memory>
#include <vector>

#include "../../include/cohort/core/error.hpp"
#include "../support/cancellation.hpp"
#include "../support/harness.hpp"

namespace cohort::test::semaphore_test {

ASYNC_TEST("a semaphore gives out its permits and no more") {
  semaphore two(co_await asio::this_coro::executor, 2);
  co_await two.acquire();
  CHECK(two.try_acquire());
  CHECK_FALSE(two.try_acquire());
  CHECK(two.available() == 0);
  two.release();
  CHECK(two.available() == 1);
  co_await two.acquire();
  CHECK(two.available() == 0);
}

ASYNC_TEST("those who wait for a permit get it in the order in which they came") {
  const auto executor = co_await asio::this_coro::executor;
  semaphore one(executor, 1);
  std::vector<int> order;
  co_await one.acquire();
  const auto wait = [&](int who) -> asio::awaitable<void> {
    co_await one.acquire();
    order.push_back(who);
    co_await yield(2);
    one.release();
  };
  for (int who = 0; who < 4; ++who) asio::co_spawn(executor, wait(who), asio::detached);
  CHECK(one.waiting() == 4);
  one.release();
  CHECK(one.waiting() == 3);
  CHECK_FALSE(one.try_acquire());  // it is on its way to the first
  co_await yield(40);
  CHECK(order == std::vector{0, 1, 2, 3});
  CHECK(one.available() == 1);
}

ASYNC_TEST("who asks for a permit does not get ahead of one who has been given his and has yet to continue") {
  const auto executor = co_await asio::this_coro::executor;
  semaphore two(executor, 2);
  std::vector<int> order;
  const auto wait = [&](int who) -> asio::awaitable<void> {
    co_await two.acquire();
    order.push_back(who);
  };
  co_await two.acquire();
  co_await two.acquire();
  asio::co_spawn(executor, wait(0), asio::detached);
  two.release();
  two.release();  // nobody else waits
  CHECK(two.available() == 1);
  CHECK_FALSE(two.try_acquire());
  asio::co_spawn(executor, wait(1), asio::detached);
  CHECK(order.empty());
  co_await yield(10);
  CHECK(order == std::vector{0, 1});
  CHECK(two.available() == 0);
}

ASYNC_TEST("a closed semaphore gives no permit and lets nobody wait") {
  const auto executor = co_await asio::this_coro::executor;
  semaphore one(executor, 1);
  co_await one.acquire();
  std::error_code error;
  const auto wait = [&]() -> asio::awaitable<void> { error = co_await error_of(one.acquire()); };
  asio::co_spawn(executor, wait(), asio::detached);
  one.close();
  one.release();
  co_await yield(5);
  CHECK(error == errc::closed);
  CHECK(one.waiting() == 0);
  CHECK_FALSE(one.try_acquire());
  error = co_await error_of(one.acquire());
  CHECK(error == errc::closed);
}

PLAIN_TEST("a wait for a permit can be cancelled at every suspension point and the permit goes to the next") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    semaphore one(executor, 1);
    co_await one.acquire();
    const auto release = [&]() -> asio::awaitable<void> {
      co_await yield(3);
      one.release();
    };
    asio::co_spawn(executor, release(), asio::detached);
    const bool acquired = co_await cancelled(one.acquire());
    if (!acquired) co_await one.acquire();
    CHECK(one.available() == 0);
    one.release();
    CHECK(one.available() == 1);
    CHECK(one.waiting() == 0);
  });
  CHECK(points > 3);
}

PLAIN_TEST("waiters of a semaphore go away with their context") {
  std::weak_ptr<semaphore> probe;
  {
    asio::io_context context;
    const auto one = std::make_shared<semaphore>(context.get_executor(), 1);
    const auto wait = [](std::shared_ptr<semaphore> held) -> asio::awaitable<void> { co_await held->acquire(); };
    for (int i = 0; i < 3; ++i) asio::co_spawn(context, wait(one), asio::detached);
    context.poll();
    one->release();
    CHECK(one->waiting() == 1);
    probe = one;
  }
  CHECK(probe.expired());
}

}  // namespace cohort::test::semaphore_test
