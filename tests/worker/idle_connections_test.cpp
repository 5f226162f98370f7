// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/worker/detail/idle_connections.hpp"

#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <system_error>
#include <vector>

#include "../../include/cohort/ipc/channel_pair.hpp"
#include "../support/cancellation.hpp"
#include "../support/harness.hpp"

namespace cohort::test::idle_connections_test {
namespace {

using detail::idle_connections;
using socket = asio::local::stream_protocol::socket;

/// As worker::readable() does it.
asio::awaitable<bool> readable(idle_connections& idle, socket& what) {
  const auto outer = co_await asio::this_coro::cancellation_state;
  detail::idle_wait mine(idle, outer);
  if (mine.wanted()) co_await what.async_wait(socket::wait_read, mine.token());
  co_return mine.result(what.native_handle());
}

void connect(socket& one, socket& other) {
  auto ends = make_channel_pair();
  one.assign(asio::local::stream_protocol(), ends.first.release());
  other.assign(asio::local::stream_protocol(), ends.second.release());
}

/// A connection, and what worker::readable() would have said of it in a coroutine of its own.
class connection {
 public:
  connection(idle_connections& idle, const asio::any_io_executor& executor) : state_(std::make_shared<data>(executor)) {
    connect(state_->near, state_->far);
    asio::co_spawn(executor, watch(idle, state_),
                   asio::bind_cancellation_slot(state_->cancel.slot(), [s = state_](std::exception_ptr thrown) {
                     try {
                       if (thrown) std::rethrow_exception(thrown);
                     } catch (const std::system_error& error) {
                       s->error = error.code();
                     }
                   }));
  }

  std::optional<bool> answer() const { return state_->answer; }
  std::error_code error() const { return state_->error; }
  void say() { state_->far.write_some(asio::buffer("x", 1)); }
  void close() { state_->far.close(); }
  void cancel() { state_->cancel.emit(asio::cancellation_type::terminal); }
  socket& here() { return state_->near; }

 private:
  struct data {
    explicit data(const asio::any_io_executor& executor) : near(executor), far(executor) {}
    socket near, far;
    asio::cancellation_signal cancel;
    std::optional<bool> answer;
    std::error_code error;
  };

  static asio::awaitable<void> watch(idle_connections& idle, std::shared_ptr<data> s) {
    s->answer = co_await readable(idle, s->near);
  }

  std::shared_ptr<data> state_;
};

std::size_t answered(const std::vector<connection>& all) {
  std::size_t count = 0;
  for (const auto& each : all) count += each.answer().has_value() ? 1 : 0;
  return count;
}

ASYNC_TEST("a connection is readable when bytes come, or the end") {
  const auto executor = co_await asio::this_coro::executor;
  idle_connections idle;
  connection speaks(idle, executor), ends(idle, executor), silent(idle, executor);
  co_await yield(5);
  CHECK_FALSE(speaks.answer());
  speaks.say();
  ends.close();
  const bool both = co_await eventually([&] { return speaks.answer() && ends.answer(); });
  CHECK(both);
  CHECK(speaks.answer() == true);
  CHECK(ends.answer() == true);
  CHECK_FALSE(silent.answer());
  idle.close_all();
  const bool told = co_await eventually([&] { return silent.answer().has_value(); });
  CHECK(told);
  CHECK(silent.answer() == false);
}

ASYNC_TEST("when all are told, a connection with bytes is readable and the others are not, without a wait") {
  const auto executor = co_await asio::this_coro::executor;
  idle_connections idle;
  connection speaks(idle, executor), silent(idle, executor);
  co_await yield(5);
  idle.close_all();
  speaks.say();  // in the moment in which it is told
  const bool both = co_await eventually([&] { return speaks.answer() && silent.answer(); });
  CHECK(both);
  CHECK(speaks.answer() == true);
  CHECK(silent.answer() == false);
  const bool still = co_await readable(idle, speaks.here());
  CHECK(still);
  const bool late = co_await readable(idle, silent.here());
  CHECK_FALSE(late);
}

ASYNC_TEST("a part of the idle ones is told, rounded up, and nobody is told twice") {
  const auto executor = co_await asio::this_coro::executor;
  idle_connections idle;
  std::vector<connection> all;
  for (int i = 0; i < 5; ++i) all.emplace_back(idle, executor);
  co_await yield(5);
  idle.close(0);
  co_await yield(10);
  CHECK(answered(all) == 0);
  idle.close(0.5);
  idle.close(0.5);  // of the two that have not been told, though those that have are still there
  co_await yield(10);
  CHECK(answered(all) == 4);
  idle.close(1);
  co_await yield(10);
  CHECK(answered(all) == 5);
  for (const auto& each : all) CHECK(each.answer() == false);
}

ASYNC_TEST("a connection that is not idle any more is not told, and those around it are") {
  const auto executor = co_await asio::this_coro::executor;
  idle_connections idle;
  std::vector<connection> all;
  for (int i = 0; i < 3; ++i) all.emplace_back(idle, executor);
  co_await yield(5);
  all[1].say();
  const bool busy = co_await eventually([&] { return all[1].answer().has_value(); });
  CHECK(busy);
  idle.close(1);
  co_await yield(10);
  CHECK(all[0].answer() == false);
  CHECK(all[1].answer() == true);
  CHECK(all[2].answer() == false);
}

ASYNC_TEST("a wait that is cancelled from outside throws, and is idle no more") {
  const auto executor = co_await asio::this_coro::executor;
  idle_connections idle;
  connection cancelled(idle, executor), both(idle, executor), other(idle, executor);
  co_await yield(5);
  cancelled.cancel();
  both.cancel();
  idle.close(1);  // in the same moment
  co_await yield(10);
  CHECK(cancelled.error() == operation_aborted());
  CHECK(both.error() == operation_aborted());
  CHECK(other.answer() == false);
  idle.close_all();
}

PLAIN_TEST("a wait can be cancelled at every suspension point, and the connection waited for again") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    idle_connections idle;
    socket near(executor), far(executor);
    connect(near, far);
    asio::post(executor, [&] { asio::post(executor, [&] { far.write_some(asio::buffer("x", 1)); }); });
    auto there_is_more = co_await cancelled(readable(idle, near));
    if (!there_is_more) there_is_more = co_await readable(idle, near);
    CHECK(*there_is_more);
  });
  CHECK(points > 0);
}

}  // namespace
}  // namespace cohort::test::idle_connections_test
