// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/cluster/reload.hpp"
#include "../../include/cohort/core/task_group.hpp"
#include "../../include/cohort/core/timeout.hpp"

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <signal.h>
#include <unistd.h>

#include "running.hpp"
#include "switch_file.hpp"

namespace cohort::test::reload_test {
namespace {

void ignore(std::exception_ptr) {}

std::set<pid_t> serving(const cluster& primary) {
  std::set<pid_t> result;
  for (const auto& each : primary.stats().workers) {
    if (each.state == worker_state::ready) result.insert(each.pid);
  }
  return result;
}

}  // namespace

ASYNC_TEST("a reload replaces every worker, the old ones drain when the new ones are ready, and no request fails") {
  for (const auto how : distributions) {
    auto c = co_await running::ready(options_for(how, 3));
    const auto old = serving(c->primary);
    const auto loop = client_loop::start(co_await asio::this_coro::executor, c->at(), "slow 1", 4);
    co_await loop->more(20);
    const auto result = co_await c->reload();
    CHECK(result.success());
    CHECK(result.replaced == 3);
    CHECK(result.generation == 2);
    co_await loop->more(20);
    co_await loop->stop();
    CHECK(loop->failures() == 0);
    const bool replaced =
        co_await eventually([&] { return serving(c->primary).size() == 3 && c->count(event_kind::exited) == 3; });
    CHECK(replaced);
    for (const auto pid : serving(c->primary)) CHECK_FALSE(old.contains(pid));
    std::size_t last_ready = 0, first_draining = c->events.size();
    for (std::size_t i = 0; i < c->events.size(); ++i) {
      if (c->events[i].what == event_kind::ready) last_ready = i;
      if (c->events[i].what == event_kind::draining && i < first_draining) first_draining = i;
    }
    CHECK(last_ready < first_draining);
    CHECK(c->primary.stats().generation == 2);
    CHECK(c->primary.stats().restarts == 0);
    CHECK(c->count(event_kind::reloading) == 1);
    CHECK(c->count(event_kind::reloaded) == 1);
    co_await c->stop();
  }
}

ASYNC_TEST("an idle connection that lives through a reload is closed, and a busy one is answered first") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 1));
  auto busy = co_await client::connect(c->at());
  auto idle = co_await client::connect(c->at());
  const auto hello = co_await idle.ask("echo hello");
  CHECK(hello == "hello");
  const auto begun = co_await busy.ask("hold");
  CHECK(begun == "holding");
  const auto result = co_await c->reload();
  CHECK(result.success());
  const auto end = co_await idle.line();
  CHECK(end == client::closed);
  const auto answer = co_await busy.ask("go on");
  CHECK(answer == "hold done");
  co_await c->stop();
}

ASYNC_TEST("a new worker that does not get ready aborts the reload, and the whole old generation goes on") {
  switch_file broken;
  for (const auto how : distributions) {
    auto options = options_for(how, 3);
    options.program = helper("worker", broken.argument());
    auto c = co_await running::ready(options);
    const auto old = serving(c->primary);
    const auto loop = client_loop::start(co_await asio::this_coro::executor, c->at(), "slow 1", 4);
    broken.on();
    const auto result = co_await c->reload();
    broken.off();
    CHECK_FALSE(result.success());
    CHECK(result.aborted_at >= 1);
    CHECK(result.replaced == 0);
    CHECK(result.reason.find("exited with 9") != std::string::npos);
    co_await loop->more(20);
    CHECK(serving(c->primary) == old);
    CHECK(c->primary.stats().generation == 1);
    CHECK(c->count(event_kind::reload_failed) == 1);
    for (const auto& each : c->events) {
      if (each.what == event_kind::draining) CHECK(old.count(each.pid) == 0);
    }

    const auto next = co_await c->reload();
    CHECK(next.success());
    co_await loop->more(20);
    co_await loop->stop();
    CHECK(loop->failures() == 0);
    co_await c->stop();
  }
}

ASYNC_TEST("with a surge of one, slots are replaced one after the other") {
  auto options = options_for(distribution::shared, 3);
  reload_options one;
  one.max_surge = 1;
  options.reload = one;
  auto c = co_await running::ready(options);
  const auto result = co_await c->reload();
  CHECK(result.replaced == 3);
  co_await c->until(event_kind::exited, 3);
  // Of the new workers none is started before the one before it is ready.
  std::vector<event_kind> order;
  for (const auto& each : c->events) {
    if (each.what == event_kind::started || each.what == event_kind::ready) order.push_back(each.what);
  }
  REQUIRE(order.size() == 12);
  for (std::size_t i = 6; i < 12; ++i) CHECK(order[i] == (i % 2 == 0 ? event_kind::started : event_kind::ready));
  co_await c->stop();
}

ASYNC_TEST("reloads that are asked for at once come one after the other") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 2));
  task_group tasks(co_await asio::this_coro::executor);
  std::vector<unsigned> generations;
  const auto reload = [&]() -> asio::awaitable<void> {
    const auto result = co_await c->reload();
    CHECK(result.success());
    generations.push_back(result.generation);
  };
  for (int i = 0; i < 3; ++i) tasks.start(reload(), ignore);
  co_await tasks.wait_empty();
  CHECK(generations == std::vector<unsigned>{2, 3, 4});
  co_await c->stop();
  CHECK(c->count(event_kind::exited) == 8);
}

ASYNC_TEST("a reload that is cancelled sends its new workers away, and the old ones go on") {
  auto options = options_for(distribution::round_robin, 2);
  auto c = co_await running::ready(options);
  const auto old = serving(c->primary);
  for (const auto wait : {0ms, 1ms, 3ms}) {
    const auto code = co_await error_of(with_timeout(c->primary.reload(), wait));
    if (!code) continue;  // it was done by then
    CHECK(code == errc::timed_out);
    const bool gone = co_await eventually([&] { return c->primary.stats().workers.size() == 2; });
    CHECK(gone);
  }
  const auto result = co_await c->reload();
  CHECK(result.success());
  co_await c->stop();
}

ASYNC_TEST("a cluster that is stopped in the middle of a reload ends all of its workers") {
  auto options = options_for(distribution::shared, 3);
  options.max_starting = 1;  // so that it cannot be over before it is stopped
  auto c = co_await running::ready(options);
  reload_result result;
  task_group tasks(co_await asio::this_coro::executor);
  const auto reload = [&]() -> asio::awaitable<void> { result = co_await c->reload(); };
  tasks.start(reload(), ignore);
  co_await yield(3);
  const int status = co_await c->stop();
  CHECK(status == 0);
  co_await tasks.wait_empty();
  CHECK_FALSE(result.success());
  CHECK(result.aborted_at == 0);
  CHECK(c->count(event_kind::started) == c->count(event_kind::exited));
}

ASYNC_TEST("a cluster that is scaled in the middle of a reload has so many workers after it, all of them new") {
  for (const unsigned workers : {2u, 6u}) {
    CAPTURE(workers);
    auto options = options_for(distribution::reuse_port, 4);
    options.max_starting = 1;
    auto c = co_await running::ready(options);
    reload_result result;
    task_group tasks(co_await asio::this_coro::executor);
    const auto reload = [&]() -> asio::awaitable<void> { result = co_await c->reload(); };
    tasks.start(reload(), ignore);
    co_await yield(2);
    c->primary.scale(workers);
    co_await tasks.wait_empty();
    CHECK(result.success());
    const bool settled = co_await eventually([&] {
      const auto stats = c->primary.stats();
      return stats.ready == workers && stats.workers.size() == workers;
    });
    CHECK(settled);
    for (const auto& each : c->primary.stats().workers) CHECK(each.generation == 2);
    co_await c->stop();
  }
}

ASYNC_TEST("a worker that is killed during a reload does not end up twice in its slot") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 2));
  task_group tasks(co_await asio::this_coro::executor);
  reload_result result;
  const auto reload = [&]() -> asio::awaitable<void> { result = co_await c->reload(); };
  tasks.start(reload(), ignore);
  ::kill(c->pid(1), SIGKILL);
  co_await tasks.wait_empty();
  CHECK(result.success());
  const bool settled = co_await eventually([&] {
    const auto stats = c->primary.stats();
    return stats.ready == 2 && stats.workers.size() == 2;
  });
  CHECK(settled);
  const auto answer = co_await ask_once(c->at(), "echo x");
  CHECK(answer == "x");
  co_await c->stop();
}

ASYNC_TEST("a cluster is scaled up and down while it serves, and no request fails") {
  for (const auto how : distributions) {
    auto c = co_await running::ready(options_for(how, 2));
    const auto loop = client_loop::start(co_await asio::this_coro::executor, c->at(), "slow 1", 4);
    co_await loop->more(10);
    c->primary.scale(5);
    CHECK(c->primary.size() == 5);
    co_await c->until(event_kind::ready, 5);
    co_await loop->more(50);
    c->primary.scale(1);
    co_await c->until(event_kind::exited, 4);
    co_await loop->more(50);
    co_await loop->stop();
    CHECK(loop->failures() == 0);
    CHECK(c->primary.stats().ready == 1);
    CHECK(c->primary.stats().workers.size() == 1);
    c->primary.scale(0);
    CHECK(c->primary.size() == 1);
    c->primary.scale(2);
    co_await c->until(event_kind::ready, 6);
    // what a slot that was there before had in its queue, and what comes to it now, is served
    for (int i = 0; i < 20; ++i) {
      const auto answer = co_await ask_once(c->at(), "echo still");
      CHECK(answer == "still");
    }
    co_await c->stop();
  }
}

ASYNC_TEST("a worker of a slot that is no more is not replaced when it dies") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 2));
  auto busy = co_await client::connect(c->at());
  auto other = co_await client::connect(c->at());
  for (auto* each : {&busy, &other}) {
    const auto begun = co_await each->ask("hold");
    CHECK(begun == "holding");
  }
  c->primary.scale(1);
  co_await c->until(event_kind::draining, 1);
  ::kill(c->pid(2), SIGKILL);
  co_await c->until(event_kind::exited, 1);
  const bool one_is_left = co_await eventually([&] { return c->primary.stats().workers.size() == 1; });
  CHECK(one_is_left);
  // One more worker gets ready, which is the reload's, and started after one that would have replaced the dead one.
  const auto result = co_await c->reload();
  CHECK(result.success());
  CHECK(c->count(event_kind::started) == 3);
  CHECK(c->last(event_kind::started).slot == 1);
  c->primary.kill("the test ends");
  co_await c->ended();
}

ASYNC_TEST("a worker that has served its share is replaced by a fresh one, without a failed request") {
  auto options = options_for(distribution::round_robin, 2);
  recycle_limits limits;
  limits.max_connections = 30;
  options.recycle = limits;
  options.ping_interval = 10ms;
  auto c = co_await running::ready(options);
  const auto loop = client_loop::start(co_await asio::this_coro::executor, c->at(), "echo x", 2);
  co_await c->until(event_kind::ready, 6);
  co_await loop->stop();
  CHECK(loop->failures() == 0);
  CHECK(c->primary.stats().restarts == 0);
  CHECK(c->primary.stats().generation == 1);
  CHECK(c->last(event_kind::reloading).text.find("because of its connections") != std::string::npos);
  co_await c->stop();
}

ASYNC_TEST("a worker that has grown old or large is replaced") {
  for (const bool by_age : {true, false}) {
    auto options = options_for(distribution::shared, 1);
    recycle_limits limits;
    if (by_age) limits.max_age = 50ms;
    if (!by_age) limits.max_memory = 1;
    options.recycle = limits;
    options.ping_interval = 10ms;
    auto c = co_await running::ready(options);
    co_await c->until(event_kind::ready, 3);
    const auto& why = c->last(event_kind::reloading).text;
    CHECK(why.find(by_age ? "age" : "memory") != std::string::npos);
    co_await c->stop();
  }
}

}  // namespace cohort::test::reload_test
