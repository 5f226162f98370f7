// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/core/single_flight.hpp"

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "../../include/cohort/core/error.hpp"
#include "../support/cancellation.hpp"
#include "../support/harness.hpp"

namespace cohort::test::single_flight_test {
namespace {

using flights = single_flight<std::string, int>;

// What a load does, and what has become of it.
struct loader {
  explicit loader(const asio::any_io_executor& executor) : gate(executor) {}

  event gate;  // a load ends when this is set
  int begun = 0, ended = 0, cancelled = 0;
  std::string failure;

  static asio::awaitable<int> load(std::shared_ptr<loader> self) {
    const int number = ++self->begun;
    try {
      co_await self->gate.wait();
    } catch (const std::system_error&) {
      ++self->cancelled;
      throw;
    }
    ++self->ended;
    if (!self->failure.empty()) throw std::runtime_error(self->failure);
    co_return number;
  }
};

// One who asks, in a coroutine of its own that can be cancelled.
struct asker {
  asio::cancellation_signal cancel;
  std::optional<int> value;
  std::string failure;

  void ask(flights& from, const std::string& key, const std::shared_ptr<loader>& how) {
    asio::co_spawn(from.get_executor(), run(from, key, how),
                   asio::bind_cancellation_slot(cancel.slot(), asio::detached));
  }

  asio::awaitable<void> run(flights& from, std::string key, std::shared_ptr<loader> how) {
    const auto load = [how] { return loader::load(how); };
    try {
      value = co_await from.run(key, load);
    } catch (const std::exception& error) {
      failure = error.what();
    }
  }
};

}  // namespace

ASYNC_TEST("ten coroutines that ask for the same key cause one load") {
  const auto executor = co_await asio::this_coro::executor;
  flights all(executor);
  const auto how = std::make_shared<loader>(executor);
  std::vector<asker> ten(10);
  for (auto& each : ten) each.ask(all, "key", how);
  CHECK(how->begun == 1);
  CHECK(all.size() == 1);
  how->gate.set();
  co_await yield(10);
  for (const auto& each : ten) CHECK(each.value == 1);
  CHECK(all.size() == 0);
}

ASYNC_TEST("different keys load apart, and a key loads again when its load has ended") {
  const auto executor = co_await asio::this_coro::executor;
  flights all(executor);
  const auto how = std::make_shared<loader>(executor);
  asker one, other, later;
  one.ask(all, "a", how);
  other.ask(all, "b", how);
  CHECK(all.size() == 2);
  how->gate.set();
  co_await yield(10);
  CHECK(one.value == 1);
  CHECK(other.value == 2);
  later.ask(all, "a", how);
  co_await yield(10);
  CHECK(later.value == 3);
}

ASYNC_TEST("a load that does not suspend gives its value") {
  flights all(co_await asio::this_coro::executor);
  const auto at_once = []() -> asio::awaitable<int> { co_return 7; };
  const int value = co_await all.run("key", at_once);
  CHECK(value == 7);
  CHECK(all.size() == 0);
}

ASYNC_TEST("an error goes to all who wait and is not kept") {
  const auto executor = co_await asio::this_coro::executor;
  flights all(executor);
  const auto how = std::make_shared<loader>(executor);
  how->failure = "no such page";
  std::vector<asker> three(3);
  for (auto& each : three) each.ask(all, "key", how);
  how->gate.set();
  co_await yield(10);
  for (const auto& each : three) CHECK(each.failure == "no such page");
  how->failure.clear();
  asker next;
  next.ask(all, "key", how);
  co_await yield(10);
  CHECK(next.value == 2);
}

ASYNC_TEST("a load that throws before it is a coroutine fails as any other") {
  flights all(co_await asio::this_coro::executor);
  const auto throwing = []() -> asio::awaitable<int> { throw std::runtime_error("not today"); };
  const auto text = co_await text_of(all.run("key", throwing));
  CHECK(text == "not today");
  CHECK(all.size() == 0);
}

ASYNC_TEST("who is cancelled leaves the load to the others, also who has begun it") {
  const auto executor = co_await asio::this_coro::executor;
  flights all(executor);
  const auto how = std::make_shared<loader>(executor);
  std::vector<asker> three(3);
  for (auto& each : three) each.ask(all, "key", how);
  co_await yield(2);
  three[0].cancel.emit(asio::cancellation_type::terminal);
  three[2].cancel.emit(asio::cancellation_type::terminal);
  co_await yield(5);
  CHECK(three[0].failure == operation_aborted().message());
  CHECK(how->cancelled == 0);
  how->gate.set();
  co_await yield(10);
  CHECK(three[1].value == 1);
  CHECK_FALSE(three[0].value);
  CHECK_FALSE(three[2].value);
}

ASYNC_TEST("the last who is cancelled cancels the load, and who comes then begins another") {
  const auto executor = co_await asio::this_coro::executor;
  flights all(executor);
  const auto how = std::make_shared<loader>(executor);
  std::vector<asker> two(2);
  for (auto& each : two) each.ask(all, "key", how);
  co_await yield(2);
  for (auto& each : two) each.cancel.emit(asio::cancellation_type::terminal);
  co_await yield(1);
  asker next;
  next.ask(all, "key", how);
  co_await yield(8);
  CHECK(how->cancelled == 1);
  CHECK(how->begun == 2);
  how->gate.set();
  co_await yield(10);
  CHECK(next.value == 2);
  for (const auto& each : two) CHECK(each.failure == operation_aborted().message());
}

ASYNC_TEST("destroying it cancels its loads, and who waits hears of that") {
  const auto executor = co_await asio::this_coro::executor;
  const auto how = std::make_shared<loader>(executor);
  std::vector<asker> two(2);
  {
    flights all(executor);
    for (auto& each : two) each.ask(all, "key", how);
    co_await yield(2);
  }
  co_await yield(10);
  CHECK(how->cancelled == 1);
  for (const auto& each : two) CHECK(each.failure == operation_aborted().message());
}

PLAIN_TEST(
    "a run can be cancelled at every suspension point: alone it cancels the load, together with another it does not") {
  for (const bool together : {false, true}) {
    CAPTURE(together);
    const auto points = cancel_at_every_turn([together](cancellation& cancelled) -> asio::awaitable<void> {
      const auto executor = co_await asio::this_coro::executor;
      flights all(executor);
      const auto how = std::make_shared<loader>(executor);
      const auto load = [how] { return loader::load(how); };
      asker other;
      const auto open = [how]() -> asio::awaitable<void> {
        co_await yield(4);
        how->gate.set();
      };
      if (together) other.ask(all, "key", how);
      asio::co_spawn(executor, open(), asio::detached);
      const auto value = co_await cancelled(all.run("key", load));
      CHECK(how->begun <= 1);
      co_await yield(20);
      CHECK(how->ended + how->cancelled == how->begun);
      if (value) CHECK(*value == 1);
      if (together) {
        CHECK(other.value == 1);
      } else if (!value && !how->gate.is_set()) {
        CHECK(how->ended == 0);
      }
      CHECK(all.size() == 0);
    });
    CHECK(points > 4);
  }
}

PLAIN_TEST("flights go away with their context") {
  const auto probe = std::make_shared<int>();
  {
    asio::io_context context;
    flights all(context.get_executor());
    const auto how = std::make_shared<loader>(context.get_executor());
    std::vector<asker> two(2);
    for (auto& each : two) each.ask(all, "key", how);
    const auto holding = [probe, how]() { return loader::load(how); };
    asio::co_spawn(context, all.run("other", holding), asio::detached);
    context.poll();
    CHECK(probe.use_count() > 1);
    CHECK(all.size() == 2);
  }
  CHECK(probe.use_count() == 1);
}

}  // namespace cohort::test::single_flight_test
