// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/core/event.hpp"

#include <optional>
#include <vector>

#include "../support/cancellation.hpp"
#include "../support/harness.hpp"

namespace cohort::test::event_test {
namespace {

// Waits in the background and notes how the wait has ended.
struct waiter {
  enum class ending { none, woken, aborted };

  explicit waiter(event& awaited) {
    asio::co_spawn(awaited.get_executor(), run(awaited, end),
                   asio::bind_cancellation_slot(cancel_.slot(), asio::detached));
  }
  waiter(const waiter&) = delete;

  void cancel() { cancel_.emit(asio::cancellation_type::terminal); }

  ending end = ending::none;

 private:
  static asio::awaitable<void> run(event& awaited, ending& end) {
    const auto error = co_await error_of(awaited.wait());
    end = error == operation_aborted() ? ending::aborted : ending::woken;
  }

  asio::cancellation_signal cancel_;
};

using ending = waiter::ending;

}  // namespace

ASYNC_TEST("an event that is set lets every wait through without suspending") {
  event ready(co_await asio::this_coro::executor);
  ready.set();
  CHECK(ready.is_set());
  bool turned = false;
  asio::post(ready.get_executor(), [&] { turned = true; });
  co_await ready.wait();
  co_await ready.wait();
  CHECK_FALSE(turned);
  co_await yield();
}

ASYNC_TEST("setting an event wakes all who wait, but not inside the call") {
  event ready(co_await asio::this_coro::executor);
  waiter first(ready), second(ready);
  co_await yield(3);
  CHECK(first.end == ending::none);
  ready.set();
  ready.set();
  CHECK(first.end == ending::none);
  co_await yield(3);
  CHECK(first.end == ending::woken);
  CHECK(second.end == ending::woken);
}

ASYNC_TEST("an event that is reset makes the next wait suspend") {
  event ready(co_await asio::this_coro::executor);
  ready.set();
  ready.reset();
  CHECK_FALSE(ready.is_set());
  waiter late(ready);
  co_await yield(3);
  CHECK(late.end == ending::none);
  ready.set();
  co_await yield(3);
  CHECK(late.end == ending::woken);
}

ASYNC_TEST("an event that is set and reset in one turn still wakes who waited") {
  event ready(co_await asio::this_coro::executor);
  waiter early(ready);
  co_await yield(3);
  ready.set();
  ready.reset();
  co_await yield(3);
  CHECK(early.end == ending::woken);
}

ASYNC_TEST("a notification wakes who waits now, once, and leaves the event unset") {
  event changed(co_await asio::this_coro::executor);
  changed.notify();
  waiter now(changed);
  co_await yield(3);
  CHECK(now.end == ending::none);
  changed.notify();
  waiter later(changed);
  co_await yield(3);
  CHECK(now.end == ending::woken);
  CHECK(later.end == ending::none);
  CHECK_FALSE(changed.is_set());
}

ASYNC_TEST("cancelling one wait leaves the others waiting and the event usable") {
  event ready(co_await asio::this_coro::executor);
  waiter first(ready), second(ready);
  co_await yield(3);
  first.cancel();
  co_await yield(3);
  CHECK(first.end == ending::aborted);
  CHECK(second.end == ending::none);
  ready.set();
  co_await yield(3);
  CHECK(second.end == ending::woken);
}

ASYNC_TEST("a wait that is notified and cancelled in one turn has been notified") {
  event changed(co_await asio::this_coro::executor);
  waiter notified_first(changed), cancelled_first(changed);
  co_await yield(3);
  cancelled_first.cancel();
  changed.notify();
  notified_first.cancel();
  co_await yield(3);
  CHECK(notified_first.end == ending::woken);
  CHECK(cancelled_first.end == ending::woken);
}

ASYNC_TEST("a wait that begins in a cancelled coroutine is cancelled, even where cancelling does not throw") {
  event never(co_await asio::this_coro::executor);
  asio::cancellation_signal cancel;
  std::error_code error;
  auto body = [&]() -> asio::awaitable<void> {
    co_await asio::this_coro::throw_if_cancelled(false);
    co_await yield(3);
    error = co_await error_of(never.wait());
  };
  asio::co_spawn(never.get_executor(), body(), asio::bind_cancellation_slot(cancel.slot(), asio::detached));
  cancel.emit(asio::cancellation_type::terminal);
  co_await yield(8);
  CHECK(error == operation_aborted());
}

PLAIN_TEST("a wait can be cancelled at every suspension point, and repeated") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    event ready(co_await asio::this_coro::executor);
    asio::post(ready.get_executor(), [&] {
      ready.notify();
      asio::post(ready.get_executor(), [&] { ready.set(); });
    });
    auto twice = [&]() -> asio::awaitable<void> {
      co_await ready.wait();
      co_await ready.wait();
    };
    const bool completed = co_await cancelled(twice());
    if (!completed) co_await ready.wait();
    CHECK(ready.is_set());
  });
  CHECK(points > 2);
}

PLAIN_TEST("who waits for an event that goes away with its context is destroyed, not resumed") {
  bool resumed = false;
  const auto destroyed = std::make_shared<int>();
  {
    asio::io_context context;
    event never(context.get_executor());
    auto body = [&resumed](event& awaited, std::shared_ptr<int>) -> asio::awaitable<void> {
      co_await awaited.wait();
      resumed = true;
    };
    asio::co_spawn(context, body(never, destroyed), asio::detached);
    context.poll();
    CHECK(destroyed.use_count() > 1);
  }
  CHECK(destroyed.use_count() == 1);
  CHECK_FALSE(resumed);
}

}  // namespace cohort::test::event_test
