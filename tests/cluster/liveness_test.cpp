// SPDX-License-Identifier: BSL-1.0
// What the primary knows of its workers' health, and what it does about it.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include <signal.h>

#include "running.hpp"

namespace cohort::test::liveness_test {

ASYNC_TEST("a worker whose loop does not turn is ended and replaced, and its neighbour goes on") {
  auto options = options_for(distribution::round_robin, 2);
  options.hang_timeout = sanitized ? 2s : 1s;  // longer than a busy machine stalls
  auto c = co_await running::ready(options);
  auto first = co_await client::connect(c->at());
  const auto who = co_await first.ask("pid");
  const auto hanging = static_cast<pid_t>(std::stol(who));
  first.say("busy 60000");
  co_await c->until(event_kind::exited, 1);
  const auto& exited = c->last(event_kind::exited);
  CHECK(exited.pid == hanging);
  CHECK(exited.status.signal() == SIGABRT);
  CHECK(c->last(event_kind::failed).text.find("hung") != std::string::npos);
  co_await c->until(event_kind::ready, 3);
  CHECK(c->count(event_kind::exited) == 1);
  const auto stats = c->primary.stats();
  CHECK(stats.restarts == 1);
  CHECK(stats.slots.at(0).last_trouble.find("hung") != std::string::npos);
  const auto answer = co_await ask_once(c->at(), "echo x");
  CHECK(answer == "x");
  co_await c->stop();
}

ASYNC_TEST("a stopped worker is ended by SIGKILL, which it cannot ignore") {
  auto options = options_for(distribution::shared, 1);
  options.hang_timeout = sanitized ? 2s : 1s;  // longer than a busy machine stalls
  auto c = co_await running::ready(options);
  ::kill(c->pid(1), SIGSTOP);
  co_await c->until(event_kind::exited, 1);
  CHECK(c->last(event_kind::exited).status == exit_status::killed(SIGKILL));
  co_await c->until(event_kind::ready, 2);
  co_await c->stop();
}

ASYNC_TEST("a worker that is busy, but answers in between, is not taken for hung") {
  auto options = options_for(distribution::round_robin, 1);
  options.hang_timeout = sanitized ? 3000ms : 1500ms;
  auto c = co_await running::ready(options);
  // Short turns, so that only a machine that stalls for most of the limit could make one too long.
  const auto end = std::chrono::steady_clock::now() + (sanitized ? 3500ms : 1800ms);
  while (std::chrono::steady_clock::now() < end) {
    const auto done = co_await ask_once(c->at(), "busy 20");
    CHECK(done == "busy done");
  }
  CHECK(c->count(event_kind::exited) == 0);
  co_await c->stop();
}

ASYNC_TEST("nobody is asked when there is no limit") {
  auto options = options_for(distribution::round_robin, 1);
  options.hang_timeout = 0ms;
  options.ping_interval = 1ms;
  auto c = co_await running::ready(options);
  const auto done = co_await ask_once(c->at(), "busy 100");
  CHECK(done == "busy done");
  CHECK(c->primary.stats().workers.at(0).memory == 0);
  co_await c->stop();
}

ASYNC_TEST("the figures say how many connections there are and were, and where each worker stands") {
  auto options = options_for(distribution::round_robin, 2);
  options.ping_interval = 5ms;
  auto c = co_await running::ready(options);
  for (int i = 0; i < 6; ++i) co_await ask_once(c->at(), "echo x");
  auto open = co_await client::connect(c->at());
  const auto hello = co_await open.ask("echo hello");
  CHECK(hello == "hello");
  const bool counted = co_await eventually([&] {
    const auto stats = c->primary.stats();
    return stats.workers.at(0).served + stats.workers.at(1).served == 6 &&
           stats.workers.at(0).open + stats.workers.at(1).open == 1;
  });
  CHECK(counted);
  const auto stats = c->primary.stats();
  CHECK(stats.wanted == 2);
  CHECK(stats.ready == 2);
  CHECK(stats.generation == 1);
  CHECK_FALSE(stats.stopping);
  REQUIRE(stats.listeners.size() == 1);
  CHECK(stats.listeners[0].address == to_string(c->at()));
  for (unsigned slot = 1; slot <= 2; ++slot) {
    const auto& one = stats.workers.at(slot - 1);
    CHECK(one.slot == slot);
    CHECK(one.generation == 1);
    CHECK(one.pid == c->pid(slot));
    CHECK(one.state == worker_state::ready);
    CHECK(one.memory > 100'000);
  }
  ::kill(c->pid(2), SIGKILL);
  co_await c->until(event_kind::ready, 3);
  const auto later = c->primary.stats();
  CHECK(later.restarts == 1);
  REQUIRE(later.slots.size() == 1);
  CHECK(later.slots.at(0).slot == 2);
  CHECK(later.slots.at(0).restarts == 1);
  CHECK(later.slots.at(0).last_exit == exit_status::killed(SIGKILL));
  co_await c->stop();
}

ASYNC_TEST("no more workers start at a time than the options allow") {
  auto options = options_for(distribution::shared, 5);
  options.max_starting = 1;
  auto c = co_await running::ready(options);
  std::vector<event_kind> order;
  for (const auto& each : c->events) {
    if (each.what == event_kind::started || each.what == event_kind::ready) order.push_back(each.what);
  }
  REQUIRE(order.size() == 10);
  for (std::size_t i = 0; i < 10; ++i) CHECK(order[i] == (i % 2 == 0 ? event_kind::started : event_kind::ready));
  co_await c->stop();
}

ASYNC_TEST("a worker is ready when its set-up is done, and a set-up that throws is a failed boot") {
  auto options = options_for(distribution::shared, 1);
  options.program = helper("worker", "set-up=100");
  auto c = co_await running::ready(options);
  CHECK(c->last(event_kind::ready).after >= 100ms);
  co_await c->stop();

  auto failing = options_for(distribution::shared, 1);
  failing.program = helper("worker", "set-up-fails=1");
  restart_policy policy;
  policy.max_failed_boots = 2;
  failing.restart = policy;
  auto d = running::start(co_await asio::this_coro::executor, failing);
  const int status = co_await d->ended();
  CHECK(status == 1);
  CHECK(d->count(event_kind::ready) == 0);
  CHECK(d->last(event_kind::draining).text == "no database");
  CHECK(d->last(event_kind::exited).status == exit_status::exited(1));
}

ASYNC_TEST("the tear-down runs after the last connection, and decides about the exit status") {
  auto options = options_for(distribution::shared, 1);
  options.program = helper("worker", "tear-down-fails=1");
  auto c = co_await running::ready(options);
  auto slow = co_await client::connect(c->at());
  const auto begun = co_await slow.ask("hold");
  CHECK(begun == "holding");
  c->primary.stop("the test ends");
  co_await c->until(event_kind::draining);
  const auto answer = co_await slow.ask("go on");
  CHECK(answer == "hold done");
  co_await c->ended();
  CHECK(c->last(event_kind::exited).status == exit_status::exited(1));
}

ASYNC_TEST("a worker accepts no more connections than its limit, and those that wait are served in turn") {
  for (const auto how : {distribution::shared, distribution::reuse_port}) {
    auto options = options_for(how, 1);
    options.program = helper("worker", "connections=2");
    auto c = co_await running::ready(options);
    std::vector<client> all;
    for (int i = 0; i < 5; ++i) {
      all.push_back(co_await client::connect(c->at()));
      all.back().say("echo served");
    }
    for (std::size_t i = 0; i < all.size(); ++i) {
      const auto answer = co_await all[i].line();
      CHECK(answer == "served");
      // The worker answers the two that it has again and again. It would answer a third one between these.
      for (int n = 0; n < 20; ++n) {
        const auto again = co_await all[i].ask("echo again");
        CHECK(again == "again");
      }
      for (std::size_t waits = std::max<std::size_t>(i + 1, 2); waits < all.size(); ++waits) {
        CHECK(all[waits].socket().available() == 0);
      }
      if (i > 0) all[i - 1].close();
    }
    co_await c->stop();
  }
}

}  // namespace cohort::test::liveness_test
