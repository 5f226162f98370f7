// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "../../include/cohort/messaging/delivery_queue.hpp"
#include "../../include/cohort/core/task_group.hpp"
#include "../../include/cohort/core/timeout.hpp"
#include "../support/harness.hpp"

namespace cohort::test::delivery_queue_test {
namespace {

delivery_options bounded(std::size_t in_flight, std::size_t queue, slow_receiver slow) {
  delivery_options options;
  options.in_flight = in_flight;
  options.queue = queue;
  options.slow = slow;
  return options;
}

/// Letters by their numbers, which are carried when `gate` is set.
struct post {
  post(const asio::any_io_executor& executor, const delivery_options& options)
      : box(executor, options), gate(executor), tasks(executor) {}

  void send(int number) {
    tasks.start(one(number), [](std::exception_ptr) {});
  }

  asio::awaitable<void> one(int number) {
    const member who;
    const auto carry = [this, number] { return carried(number); };
    const auto give_up = [this] { ++given_up; };
    const auto became = co_await box.deliver(who, carry, give_up);
    (became.complete() ? delivered : refused).push_back(number);
    if (!became.complete()) why = became.failures.at(0).why;
  }

  asio::awaitable<receipt> carried(int number) {
    begun.push_back(number);
    co_await gate.wait();
    receipt result;
    result.delivered = 1;
    co_return result;
  }

  delivery_queue box;
  event gate;
  std::vector<int> begun, delivered, refused;
  undelivered why = undelivered::gone;
  int given_up = 0;
  task_group tasks;
};

using numbers = std::vector<int>;

}  // namespace

ASYNC_TEST("letters are carried in their order, so many at a time") {
  post p(co_await asio::this_coro::executor, bounded(2, 10, slow_receiver::block));
  for (int i = 0; i < 6; ++i) p.send(i);
  CHECK(p.begun == numbers{0, 1});
  CHECK(p.box.waiting() == 4);
  p.gate.set();
  co_await p.tasks.wait_empty();
  const numbers all{0, 1, 2, 3, 4, 5};
  CHECK(p.begun == all);
  CHECK(p.delivered == all);
}

ASYNC_TEST("a letter that arrives does not overtake one whose turn has come in the same moment") {
  post p(co_await asio::this_coro::executor, bounded(2, 10, slow_receiver::block));
  for (int i = 0; i < 3; ++i) p.send(i);
  p.gate.set();
  int next = 3;
  for (int turn = 0; turn < 50 && next < 20; ++turn) {
    p.send(next++);
    co_await yield();
  }
  co_await p.tasks.wait_empty();
  CHECK(p.delivered.size() == 20);
  CHECK(std::is_sorted(p.begun.begin(), p.begun.end()));
}

ASYNC_TEST("a delivery_queue that blocks refuses nothing") {
  post p(co_await asio::this_coro::executor, bounded(1, 2, slow_receiver::block));
  for (int i = 0; i < 9; ++i) p.send(i);
  p.gate.set();
  co_await p.tasks.wait_empty();
  CHECK(p.delivered.size() == 9);
  CHECK(p.refused.empty());
}

ASYNC_TEST("a delivery_queue that drops drops what has waited longest") {
  post p(co_await asio::this_coro::executor, bounded(1, 2, slow_receiver::drop_oldest));
  for (int i = 0; i < 6; ++i) p.send(i);
  co_await yield(3);
  const numbers dropped{1, 2, 3}, rest{0, 4, 5};
  CHECK(p.refused == dropped);
  CHECK(p.why == undelivered::dropped);
  p.gate.set();
  co_await p.tasks.wait_empty();
  CHECK(p.delivered == rest);
  CHECK(p.given_up == 0);
}

ASYNC_TEST("a delivery_queue that disconnects refuses all that waits and comes, and says so once") {
  post p(co_await asio::this_coro::executor, bounded(1, 2, slow_receiver::disconnect));
  for (int i = 0; i < 5; ++i) p.send(i);
  co_await yield(3);
  CHECK(p.refused.size() == 4);
  CHECK(p.why == undelivered::slow);
  CHECK(p.given_up == 1);
  CHECK(p.box.is_closed());
  p.gate.set();
  co_await p.tasks.wait_empty();
  CHECK(p.delivered == numbers{0});
}

ASYNC_TEST("a letter that is cancelled leaves its turn to the next, also in the moment in which it comes") {
  post p(co_await asio::this_coro::executor, bounded(1, 9, slow_receiver::block));
  p.send(0);
  asio::cancellation_signal cancel;
  const auto executor = co_await asio::this_coro::executor;
  bool ended = false;
  asio::co_spawn(executor, p.one(1), asio::bind_cancellation_slot(cancel.slot(), [&](std::exception_ptr thrown) {
                   ended = true;
                   CHECK(thrown);
                 }));
  p.send(2);
  p.gate.set();
  bool begun = false;
  for (int turn = 0; turn < 50 && !begun; ++turn) {
    begun = p.delivered == numbers{0};
    if (begun) cancel.emit(asio::cancellation_type::terminal);
    co_await yield();
  }
  co_await p.tasks.wait_empty();
  const bool over = co_await eventually([&] { return ended; });
  CHECK(over);
  const numbers rest{0, 2};
  CHECK(p.delivered == rest);
}

}  // namespace cohort::test::delivery_queue_test
