// SPDX-License-Identifier: BSL-1.0
#include "../../../include/cohort/ipc/transport/lease_window.hpp"

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "../../support/harness.hpp"

namespace cohort::test::lease_window_test {
namespace {

using detail::lease_window;
using state = lease_window::state;

struct own_event {
  explicit own_event(const asio::any_io_executor& executor) : own(executor) {}
  event own;
};

/// A lease with an event for it alone.
struct lease : own_event, lease_window::lease {
  lease(lease_window& in, const asio::any_io_executor& executor) : own_event(executor), lease_window::lease(in, own) {}
};

/// Somebody who waits for room, takes it and keeps it, in a coroutine of its own.
class giver {
 public:
  giver(lease_window& window, const asio::any_io_executor& executor) : state_(std::make_shared<data>()) {
    asio::co_spawn(executor, give(window, executor, state_),
                   asio::bind_cancellation_slot(state_->cancel.slot(), [s = state_](std::exception_ptr thrown) {
                     s->ended = true;
                     try {
                       if (thrown) std::rethrow_exception(thrown);
                     } catch (const std::exception& error) {
                       s->failure = error.what();
                     }
                   }));
  }

  bool has_room() const { return state_->given.has_value(); }
  bool ended() const { return state_->ended; }
  const std::string& failure() const { return state_->failure; }
  void end() { state_->given.reset(); }
  void cancel() { state_->cancel.emit(asio::cancellation_type::terminal); }
  /// What `check` throws from now on.
  void fail(std::string why) { state_->pointless = std::move(why); }

 private:
  struct data {
    asio::cancellation_signal cancel;
    std::optional<lease> given;
    std::string pointless, failure;
    bool ended = false;
  };

  static asio::awaitable<void> give(lease_window& window, asio::any_io_executor executor, std::shared_ptr<data> s) {
    const auto check = [s] {
      if (!s->pointless.empty()) throw std::runtime_error(s->pointless);
    };
    co_await window.wait_room(executor, check);
    s->given.emplace(window, executor);
  }

  std::shared_ptr<data> state_;
};

template <class Function>
std::error_code code_of(Function what) {
  try {
    what();
  } catch (const std::system_error& error) {
    return error.code();
  }
  return std::error_code();
}

ASYNC_TEST("there is room for as many leases as the window has, until one of them ends") {
  const auto executor = co_await asio::this_coro::executor;
  lease_window window(2);
  CHECK(window.has_room());
  std::optional<lease> first(std::in_place, window, executor);
  CHECK(window.has_room());
  const lease second(window, executor);
  CHECK_FALSE(window.has_room());
  first.reset();
  CHECK(window.has_room());
  CHECK(second.id == 2);
}

ASYNC_TEST("a window of none is one of one") {
  const auto executor = co_await asio::this_coro::executor;
  lease_window window(0);
  CHECK(window.has_room());
  const lease only(window, executor);
  CHECK_FALSE(window.has_room());
}

ASYNC_TEST("those who wait for room get it in their order, one for each lease that ends") {
  const auto executor = co_await asio::this_coro::executor;
  lease_window window(1);
  giver first(window, executor), second(window, executor), third(window, executor);
  co_await yield(5);
  CHECK(first.has_room());
  CHECK_FALSE(second.has_room());
  first.end();
  CHECK_FALSE(window.has_room());  // whoever comes now is behind those who wait
  giver late(window, executor);
  co_await yield(5);
  CHECK(second.has_room());
  CHECK_FALSE(third.has_room());
  second.end();
  co_await yield(5);
  CHECK(third.has_room());
  CHECK_FALSE(late.has_room());
  third.end();
  co_await yield(5);
  CHECK(late.has_room());
  late.end();
}

ASYNC_TEST("a wait that is cancelled leaves its turn to the next one") {
  const auto executor = co_await asio::this_coro::executor;
  lease_window window(1);
  giver first(window, executor), second(window, executor), third(window, executor);
  co_await yield(5);
  second.cancel();
  co_await yield(5);
  CHECK(second.ended());
  CHECK_FALSE(second.has_room());
  CHECK_FALSE(third.has_room());
  first.end();
  co_await yield(5);
  CHECK(third.has_room());
  third.end();
}

ASYNC_TEST("a wait that is cancelled in the moment in which its turn comes loses no room") {
  const auto executor = co_await asio::this_coro::executor;
  for (const bool cancelled_first : {false, true}) {
    lease_window window(1);
    giver first(window, executor), second(window, executor), third(window, executor);
    co_await yield(5);
    if (cancelled_first) second.cancel();
    first.end();
    if (!cancelled_first) second.cancel();
    co_await yield(10);
    CHECK(second.ended());
    CHECK(second.has_room() != third.has_room());
    second.end();
    co_await yield(5);
    CHECK(third.has_room());
    third.end();
  }
}

ASYNC_TEST("a wait that has become pointless ends when all look again, and the others wait on") {
  const auto executor = co_await asio::this_coro::executor;
  lease_window window(1);
  giver first(window, executor), second(window, executor), third(window, executor);
  co_await yield(5);
  second.fail("the peer is gone");
  window.wake_all();
  co_await yield(10);
  CHECK(second.failure() == "the peer is gone");
  CHECK_FALSE(third.ended());
  first.end();
  co_await yield(10);
  CHECK(third.has_room());
  third.end();
}

ASYNC_TEST("an answer reaches its lease, and wakes who waits for it") {
  const auto executor = co_await asio::this_coro::executor;
  lease_window window(3);
  lease taken(window, executor), refused(window, executor), open(window, executor);
  taken.sent = 1;
  refused.sent = 2;
  open.sent = 3;
  int woken = 0;
  const auto wait = [&](lease& each) -> asio::awaitable<void> {
    co_await each.changed.wait();
    ++woken;
  };
  for (auto* each : {&taken, &refused, &open}) asio::co_spawn(executor, wait(*each), asio::detached);
  co_await yield(5);
  window.settle(refused.id, state::refused, wire::refusal::lost, 3);
  window.settle(taken.id, state::adopted, wire::refusal(), 3);
  co_await yield(5);
  CHECK(woken == 2);
  CHECK(taken.state == state::adopted);
  CHECK(refused.state == state::refused);
  CHECK(refused.reason == wire::refusal::lost);
  CHECK(open.state == state::pending);
  window.wake_all();
  co_await yield(5);
  CHECK(woken == 3);
}

ASYNC_TEST("an answer to a lease that has ended here is nothing") {
  const auto executor = co_await asio::this_coro::executor;
  lease_window window(1);
  std::uint64_t id = 0;
  {
    lease cancelled(window, executor);
    cancelled.sent = 1;
    id = cancelled.id;
  }
  CHECK_FALSE(code_of([&] { window.settle(id, state::adopted, wire::refusal(), 1); }));
}

ASYNC_TEST("answers that no correct peer gives are malformed") {
  const auto executor = co_await asio::this_coro::executor;
  lease_window window(2);
  lease given(window, executor), queued(window, executor);
  given.sent = 4;
  const auto settle = [&](std::uint64_t id, detail::outbox::ticket begun) {
    return code_of([&] { window.settle(id, state::adopted, wire::refusal(), begun); });
  };
  CHECK(settle(0, 9) == errc::malformed);
  CHECK(settle(queued.id + 1, 9) == errc::malformed);  // a number that no lease has had
  CHECK(settle(given.id, 3) == errc::malformed);       // of which the peer cannot have a byte
  CHECK(settle(queued.id, 9) == errc::malformed);      // which is not even queued to be written
  CHECK(given.state == state::pending);
  CHECK_FALSE(settle(given.id, 4));
  CHECK(settle(given.id, 4) == errc::malformed);  // a second time
}

}  // namespace
}  // namespace cohort::test::lease_window_test
