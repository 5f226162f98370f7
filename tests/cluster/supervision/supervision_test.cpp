// SPDX-License-Identifier: BSL-1.0
// What the cluster does about workers that end: reasons, giving up, one for all.
#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include <signal.h>
#include <unistd.h>

#include "../running.hpp"
#include "../switch_file.hpp"
#include "../../../include/cohort/core/task_group.hpp"

namespace cohort::test::supervision_test {
namespace {

exit_reason reason_of(const running& c, pid_t pid) {
  for (const auto& each : c.events) {
    if (each.what == event_kind::exited && each.pid == pid) return each.reason;
  }
  return exit_reason::none;
}

std::set<pid_t> pids(const cluster& primary) {
  std::set<pid_t> result;
  for (const auto& each : primary.stats().workers) result.insert(each.pid);
  return result;
}

std::vector<unsigned> degraded(const cluster& of) {
  std::vector<unsigned> result;
  for (const auto& each : of.stats().slots) {
    if (each.degraded) result.push_back(each.slot);
  }
  return result;
}

}  // namespace

ASYNC_TEST("the event of an exit says why the worker ended, and so do the statistics of its slot") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 3));
  const pid_t killed = c->pid(1), failed = c->pid(2), asked = c->pid(3);
  ::kill(killed, SIGALRM);
  ::kill(asked, SIGTERM);
  co_await c->until(event_kind::exited, 2);
  co_await c->until(event_kind::ready, 5);
  // the third is the only old one: ask until it answers
  for (int i = 0; i < 9 && reason_of(*c, failed) == exit_reason::none; ++i) {
    const auto answer = co_await ask_once(c->at(), "pid");
    if (!answer.starts_with(std::to_string(failed) + " ")) continue;
  }
  auto last = co_await client::connect(c->at());
  CHECK(reason_of(*c, killed) == exit_reason::crash);
  CHECK(reason_of(*c, asked) == exit_reason::asked);
  const auto stats = c->primary.stats();
  REQUIRE(stats.slots.size() == 2);
  CHECK(stats.slots[0].last_reason == exit_reason::crash);
  CHECK(stats.slots[0].last_exit == exit_status::killed(SIGALRM));
  CHECK(stats.slots[1].last_reason == exit_reason::asked);
  CHECK(stats.restarts == 2);
  co_await c->stop();
  CHECK(reason_of(*c, failed) == exit_reason::asked);
}

ASYNC_TEST("a cluster that degrades leaves the slot empty, serves on, and fills it with the next reload") {
  switch_file broken;
  auto options = options_for(distribution::round_robin, 3);
  restart_policy policy;
  policy.max_failed_boots = 2;
  policy.on_give_up = give_up_action::degrade;
  options.restart = policy;
  options.program = helper("worker", broken.argument());
  auto c = co_await running::ready(options);
  broken.on();
  ::kill(c->pid(2), SIGKILL);
  co_await c->until(event_kind::degraded);
  CHECK(c->last(event_kind::degraded).slot == 2);
  CHECK(c->count(event_kind::gave_up) == 0);
  const auto answer = co_await ask_once(c->at(), "echo on");
  CHECK(answer == "on");
  CHECK(c->primary.stats().ready == 2);
  CHECK(degraded(c->primary) == std::vector<unsigned>{2});
  c->primary.scale(1);
  CHECK(degraded(c->primary).empty());
  c->primary.scale(2);
  CHECK(degraded(c->primary).empty());
  co_await c->until(event_kind::degraded, 2);
  CHECK(degraded(c->primary) == std::vector<unsigned>{2});
  c->primary.scale(3);
  co_await c->until(event_kind::degraded, 3);
  CHECK(degraded(c->primary) == std::vector<unsigned>{2, 3});
  broken.off();
  const auto result = co_await c->reload();
  CHECK(result.success());
  CHECK(c->primary.stats().ready == 3);
  CHECK(degraded(c->primary).empty());
  const int status = co_await c->stop();
  CHECK(status == 0);
}

ASYNC_TEST("a cluster that degrades until no worker is left gives up") {
  switch_file broken;
  auto options = options_for(distribution::shared, 2);
  restart_policy policy;
  policy.max_failed_boots = 1;
  policy.on_give_up = give_up_action::degrade;
  options.restart = policy;
  options.program = helper("worker", broken.argument());
  auto c = co_await running::ready(options);
  broken.on();
  ::kill(c->pid(1), SIGKILL);
  ::kill(c->pid(2), SIGKILL);
  const int status = co_await c->ended();
  CHECK(status == 1);
  CHECK(c->last(event_kind::gave_up).text.find("no worker is left") != std::string::npos);
}

ASYNC_TEST("who is asked when a slot is given up decides") {
  auto options = options_for(distribution::round_robin, 2);
  restart_policy policy;
  policy.max_failed_boots = 1;
  std::vector<std::string> asked;
  auto decision = give_up_action::degrade;
  options.restart = policy;
  options.on_give_up = [&](unsigned slot, const std::string& why) {
    asked.push_back(std::to_string(slot) + ": " + why);
    return decision;
  };
  switch_file broken;
  options.program = helper("worker", broken.argument());
  auto c = co_await running::ready(options);
  broken.on();
  ::kill(c->pid(2), SIGKILL);
  co_await c->until(event_kind::degraded);
  CHECK(asked == std::vector<std::string>{"2: worker 2 did not get ready"});
  decision = give_up_action::shut_down;
  ::kill(c->pid(1), SIGKILL);
  const int status = co_await c->ended();
  CHECK(status == 1);
  CHECK(asked.size() == 2);
}

ASYNC_TEST("one for all: when one ends by itself the others are replaced as by a reload, and no request fails") {
  auto options = options_for(distribution::shared, 3);
  restart_policy policy;
  policy.scope = restart_scope::one_for_all;
  options.restart = policy;
  auto c = co_await running::ready(options);
  const auto old = pids(c->primary);
  ::kill(c->pid(2), SIGTERM);  // it drains, so that its requests do not fail either
  const auto loop = client_loop::start(co_await asio::this_coro::executor, c->at(), "slow 1", 4);
  const bool replaced = co_await eventually([&] {
    const auto now = pids(c->primary);
    return now.size() == 3 && c->primary.stats().ready == 3 &&
           std::none_of(now.begin(), now.end(), [&](pid_t each) { return old.count(each) != 0; });
  });
  CHECK(replaced);
  co_await loop->more(10);
  co_await loop->stop();
  CHECK(loop->failures() == 0);
  CHECK(c->count(event_kind::started) == 6);
  co_await c->stop();
}

ASYNC_TEST("a reload that may do without some workers takes them away first") {
  auto options = options_for(distribution::round_robin, 4);
  reload_options how;
  how.max_unavailable = 2;
  options.reload = how;
  auto c = co_await running::ready(options);
  const auto loop = client_loop::start(co_await asio::this_coro::executor, c->at(), "slow 1", 4);
  unsigned most = 0, least = 4;
  reload_result result;
  bool over = false;
  task_group tasks(co_await asio::this_coro::executor);
  const auto reload = [&]() -> asio::awaitable<void> {
    result = co_await c->reload();
    over = true;
  };
  tasks.start(reload(), [](std::exception_ptr) {});
  while (!over) {
    most = std::max(most, c->primary.stats().ready);
    least = std::min(least, c->primary.stats().ready);
    co_await yield();
  }
  CHECK(result.success());
  CHECK(result.replaced == 4);
  co_await loop->stop();
  CHECK(loop->failures() == 0);
  CHECK(most <= 4);
  CHECK(least == 2);
  co_await c->stop();
}

ASYNC_TEST("a reload kills the workers that have been draining for the longest time, if there are too many") {
  auto options = options_for(distribution::round_robin, 1);
  reload_options how;
  how.max_draining = 1;
  options.reload = how;
  auto c = co_await running::ready(options);
  std::vector<client> clients;
  std::vector<pid_t> olds;
  for (int i = 0; i < 3; ++i) {
    olds.push_back(c->pid(1));
    clients.push_back(co_await client::connect(c->at()));
    const auto begun = co_await clients.back().ask("hold");
    CHECK(begun == "holding");
    const auto result = co_await c->reload();
    CHECK(result.success());
  }
  // the third reload found two that drained
  const bool gone = co_await eventually([&] { return c->count(event_kind::exited) == 1; });
  CHECK(gone);
  CHECK(c->last(event_kind::exited).pid == olds[0]);
  c->primary.kill("the test ends");
  co_await c->ended();
}

}  // namespace cohort::test::supervision_test
