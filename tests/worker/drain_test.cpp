// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/worker/detail/drain.hpp"

#include <cstddef>
#include <memory>
#include <system_error>
#include <vector>

#include "../../include/cohort/core/task_group.hpp"
#include "../../include/cohort/worker/detail/idle_connections.hpp"
#include "../support/harness.hpp"

namespace cohort::test::drain_test {
namespace {

/// Long-lived connections that wait for the word to go, and what has come of it.
class crowd {
 public:
  crowd(const asio::any_io_executor& executor, std::chrono::milliseconds spread)
      : options_(spread_over(spread)),
        drain_(executor, options_, idle_),
        background_(executor),
        connections_(executor) {}

  void enter(int number) {
    for (int i = 0; i < number; ++i) connections_.start(stay(i));
  }

  /// Waits until nobody is left.
  asio::awaitable<void> leave() {
    background_.start(drain_.ask_to_go());
    drain_.begin(worker_exit::asked);
    co_await connections_.wait_empty();
    co_await background_.wait_empty();
  }

  asio::awaitable<void> stay(int who) {
    co_await drain_.wait_turn();
    order.push_back(who);
    // A turn later: who is asked in the same step has left by then, too.
    co_await asio::post(connections_.get_executor(), asio::use_awaitable);
    gone.push_back(order.size());
  }

  task_group& connections() { return connections_; }

  std::vector<int> order;
  std::vector<std::size_t> gone;  // how many had gone when each one went

 private:
  static worker_options spread_over(std::chrono::milliseconds spread) {
    worker_options result;
    result.drain_spread = spread;
    return result;
  }

  worker_options options_;
  detail::idle_connections idle_;
  detail::drain_sequence drain_;
  task_group background_;
  task_group connections_;
};

ASYNC_TEST("long-lived connections are asked to go one after another, who waits longest first") {
  crowd all(co_await asio::this_coro::executor, 50ms);  // five steps
  all.enter(5);
  co_await all.leave();
  CHECK(all.order == std::vector<int>{0, 1, 2, 3, 4});
  CHECK(all.gone == std::vector<std::size_t>{1, 2, 3, 4, 5});
}

ASYNC_TEST("many are asked in each step, and all of them in the end") {
  crowd all(co_await asio::this_coro::executor, 20ms);
  all.enter(7);
  co_await all.leave();
  CHECK(all.gone == std::vector<std::size_t>{4, 4, 4, 4, 7, 7, 7});
}

ASYNC_TEST("without a spread all are asked at once, and who comes later at once, too") {
  crowd all(co_await asio::this_coro::executor, 0ms);
  all.enter(3);
  co_await all.leave();
  CHECK(all.gone == std::vector<std::size_t>{3, 3, 3});
  co_await all.stay(3);
  CHECK(all.order.back() == 3);
}

ASYNC_TEST("a connection that has ended by itself is not asked, and takes nobody's turn") {
  crowd all(co_await asio::this_coro::executor, 20ms);
  const auto first = all.connections().start(all.stay(9));
  all.enter(2);
  first.lock()->emit(asio::cancellation_type::terminal);
  co_await all.leave();
  CHECK(all.order == std::vector<int>{0, 1});
  CHECK(all.gone == std::vector<std::size_t>{1, 2});
}

}  // namespace
}  // namespace cohort::test::drain_test
