// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <string>
#include <vector>

#include <signal.h>
#include <unistd.h>

#include "switch_file.hpp"
#include "../messaging/townhall.hpp"

namespace cohort::test::agent_test {
namespace {

std::size_t place(const running& c, event_kind what, const std::string& agent) {
  const auto at = std::find_if(c.events.begin(), c.events.end(),
                               [&](const auto& each) { return each.what == what && each.agent == agent; });
  return static_cast<std::size_t>(at - c.events.begin());
}

std::size_t first(const running& c, event_kind what) {
  const auto at = std::find_if(c.events.begin(), c.events.end(),
                               [&](const auto& each) { return each.what == what && each.slot != 0; });
  return static_cast<std::size_t>(at - c.events.begin());
}

std::size_t last(const running& c, event_kind what) {
  std::size_t result = 0;
  for (std::size_t i = 0; i < c.events.size(); ++i) {
    if (c.events[i].what == what && c.events[i].slot != 0) result = i;
  }
  return result;
}

}  // namespace

ASYNC_TEST("agents are ready before the first worker starts, and stop after the last one is gone") {
  auto options = townhall::options(2);
  options.agents.push_back(townhall::agent("cache"));
  options.agents.push_back(townhall::agent("log"));
  auto t = co_await townhall::open(options);
  co_await t->c->stop();
  for (const char* const name : {"cache", "log"}) {
    CHECK(place(*t->c, event_kind::ready, name) < first(*t->c, event_kind::started));
    CHECK(place(*t->c, event_kind::draining, name) > last(*t->c, event_kind::exited));
    const auto& exited = t->c->events.at(place(*t->c, event_kind::exited, name));
    CHECK(exited.status == exit_status::exited(0));
    CHECK(exited.reason == exit_reason::asked);
  }
}

ASYNC_TEST("everybody hears when all are ready, and those that come later at once") {
  auto options = townhall::options(2);
  options.agents.push_back(townhall::agent("cache"));
  auto t = co_await townhall::open(options);
  co_await t->c->primary.all_ready();
  for (const auto& who : {recipient::slot(1), recipient::slot(2), recipient::agent("cache")}) {
    const auto text = co_await t->until_heard(who, "all-ready");
    CHECK(text == "all-ready ");
  }
  ::kill(t->c->pid(1), SIGKILL);
  co_await t->c->until(event_kind::exited);
  co_await t->c->until(event_kind::ready, 4);
  const auto text = co_await t->until_heard(recipient::slot(1), "all-ready");
  CHECK(text == "all-ready ");
  co_await t->c->stop();
}

ASYNC_TEST("an agent that fails before it is ready keeps the cluster from starting, and says why") {
  auto options = townhall::options(2);
  options.agents.push_back(townhall::agent("good"));
  options.agents.push_back(townhall::agent("bad", "set-up-fails=1"));
  auto c = running::start(co_await asio::this_coro::executor, options);
  const int status = co_await c->ended();
  CHECK(status == 1);
  CHECK(c->last(event_kind::gave_up).text == "agent bad: not ready: no source");
  CHECK(first(*c, event_kind::started) == c->events.size());
}

ASYNC_TEST("an agent that is killed before it is ready keeps the cluster from starting") {
  auto options = townhall::options(1);
  agent_options mute("mute");
  mute.command = helper("worker-mute");
  options.agents.push_back(mute);
  auto c = running::start(co_await asio::this_coro::executor, options);
  co_await c->until(event_kind::started);
  ::kill(c->last(event_kind::started).pid, SIGKILL);
  const int status = co_await c->ended();
  CHECK(status == 1);
  CHECK(c->last(event_kind::gave_up).text.find("SIGKILL") != std::string::npos);
}

ASYNC_TEST("a stop while an agent starts ends it, and no worker is started") {
  auto options = townhall::options(1);
  agent_options mute("mute");
  mute.command = helper("worker-mute");
  mute.drain_timeout = 0ms;
  options.agents.push_back(mute);
  auto c = running::start(co_await asio::this_coro::executor, options);
  co_await c->until(event_kind::started);
  c->primary.stop("enough");
  c->primary.kill("at once");
  const int status = co_await c->ended();
  CHECK(status == 0);
  CHECK(first(*c, event_kind::started) == c->events.size());
}

ASYNC_TEST("an agent that is killed comes back while the workers stay, and they hear of both") {
  auto options = townhall::options(2);
  options.agents.push_back(townhall::agent("cache"));
  auto t = co_await townhall::open(options);
  const pid_t old = t->agent_pid("cache");
  const pid_t one = t->c->pid(1), two = t->c->pid(2);
  for (unsigned slot = 1; slot <= 2; ++slot) {  // which may else come between what they hear of the agent
    const auto text = co_await t->until_heard(recipient::slot(slot), "all-ready");
    CHECK(text == "all-ready ");
  }
  ::kill(old, SIGKILL);
  co_await t->c->until(event_kind::ready, 4);
  CHECK(t->agent_pid("cache") != old);
  for (unsigned slot = 1; slot <= 2; ++slot) {
    const auto text = co_await t->until_heard(recipient::slot(slot), "back:cache");
    CHECK(text.find("gone:cache back:cache") != std::string::npos);
  }
  const auto text = co_await t->until_heard(recipient::agent("cache"), "all-ready");
  CHECK(text == "all-ready ");
  CHECK(t->c->pid(1) == one);
  CHECK(t->c->pid(2) == two);
  co_await t->c->stop();
}

ASYNC_TEST("an agent that cannot start again is given up as the restart policy says") {
  switch_file broken;
  auto options = townhall::options(1);
  options.agents.push_back(townhall::agent("cache", broken.argument()));
  restart_policy policy;
  policy.max_failed_boots = 3;
  SUBCASE("and with it the cluster") {
    options.restart = policy;
    auto t = co_await townhall::open(options);
    broken.on();
    ::kill(t->agent_pid("cache"), SIGKILL);
    const int status = co_await t->c->ended();
    CHECK(status == 1);
    CHECK(t->c->last(event_kind::gave_up).text == "agent cache: too many restarts");
  }
  SUBCASE("or alone") {
    policy.on_give_up = give_up_action::degrade;
    options.restart = policy;
    auto t = co_await townhall::open(options);
    broken.on();
    ::kill(t->agent_pid("cache"), SIGKILL);
    co_await t->c->until(event_kind::degraded);
    CHECK(t->c->last(event_kind::degraded).agent == "cache");
    const auto answer = co_await ask_once(t->c->at(), "echo on");
    CHECK(answer == "on");
    const int status = co_await t->c->stop();
    CHECK(status == 0);
  }
}

ASYNC_TEST("an exception in an agent is told, and does not end it, unless it is to") {
  auto options = townhall::options(1);
  SUBCASE("told") {
    options.agents.push_back(townhall::agent("cache", "run-throws=1"));
    auto t = co_await townhall::open(options);
    co_await t->c->until(event_kind::failed);
    CHECK(t->c->last(event_kind::failed).text == "thrown in run; it is idle from now on");
    CHECK(t->c->last(event_kind::failed).agent == "cache");
    const town::news what;
    const auto became = co_await t->talk.send_to_agent("cache", what);
    CHECK(became.complete());
    const int status = co_await t->c->stop();
    CHECK(status == 0);
  }
  SUBCASE("ended") {
    options.agents.push_back(townhall::agent("cache", "run-throws=1", "fragile=1"));
    auto t = co_await townhall::open(options);
    co_await t->c->until(event_kind::exited);
    CHECK(t->c->last(event_kind::exited).status == exit_status::exited(1));
    co_await t->c->until(event_kind::ready, 3);
    co_await t->c->stop();
  }
}

ASYNC_TEST("an agent runs again after a pause if its options say so") {
  auto options = townhall::options(1);
  options.agents.push_back(townhall::agent("cache", "run-throws=1", "again=5"));
  auto t = co_await townhall::open(options);
  co_await t->c->until(event_kind::failed, 3);
  CHECK(t->c->last(event_kind::failed).text == "thrown in run; it runs again in 0.005 s");
  CHECK(t->c->count(event_kind::exited) == 0);
  const int status = co_await t->c->stop();
  CHECK(status == 0);
}

ASYNC_TEST("the statistics tell of agents, and how often each was restarted") {
  auto options = townhall::options(1);
  options.agents.push_back(townhall::agent("cache"));
  options.agents.push_back(townhall::agent("log"));
  auto t = co_await townhall::open(options);
  ::kill(t->agent_pid("log"), SIGKILL);
  co_await t->c->until(event_kind::ready, 4);
  auto agents = t->c->primary.stats().agents;
  REQUIRE(agents.size() == 2);
  CHECK(agents[0].name == "cache");
  CHECK(agents[0].pid == t->agent_pid("cache"));
  CHECK(agents[0].state == worker_state::ready);
  CHECK(agents[0].restarts == 0);
  CHECK(agents[1].pid == t->agent_pid("log"));
  CHECK(agents[1].restarts == 1);
  co_await t->c->stop();
  agents = t->c->primary.stats().agents;
  CHECK(agents[1].pid == 0);
  CHECK(agents[1].state == worker_state::dead);
}

ASYNC_TEST("an agent that is killed while the cluster stops does not come back") {
  auto options = townhall::options(1, "job=0");
  options.agents.push_back(townhall::agent("cache"));
  auto t = co_await townhall::open(options);
  auto busy = co_await client::connect(t->c->at());
  const auto answer = co_await busy.ask("echo here");
  CHECK(answer == "here");
  t->c->primary.stop("the test ends");
  ::kill(t->agent_pid("cache"), SIGKILL);
  co_await t->c->until(event_kind::exited);
  busy.close();
  const int status = co_await t->c->ended();
  CHECK(status == 0);
  CHECK(t->c->count(event_kind::ready) == 2);
}

ASYNC_TEST("an agent that does not want to be restarted stays away") {
  auto options = townhall::options(1);
  options.agents.push_back(townhall::agent("cache"));
  auto t = co_await townhall::open(options);
  town::mischief quit;
  quit.what = "quit";
  co_await t->talk.send_to_agent("cache", quit);
  co_await t->c->until(event_kind::not_restarted);
  CHECK(t->c->last(event_kind::not_restarted).agent == "cache");
  const town::news what;
  const auto became = co_await t->talk.send_to_agent("cache", what);
  CHECK(became.failures.at(0).why == undelivered::gone);
  co_await t->c->stop();
}

ASYNC_TEST("agents without a name, of one name, or without a program are refused") {
  auto nameless = townhall::options(1);
  nameless.agents.push_back(townhall::agent(""));
  auto text = co_await refusal(nameless);
  CHECK(text.find("agent: an empty name") != std::string::npos);
  auto twice = townhall::options(1);
  twice.agents.push_back(townhall::agent("a"));
  twice.agents.push_back(townhall::agent("a"));
  text = co_await refusal(twice);
  CHECK(text.find("agent a: the name is used twice") != std::string::npos);
  auto programless = townhall::options(1);
  programless.agents.push_back(agent_options("a"));
  text = co_await refusal(programless);
  CHECK(text.find("agent a: the cluster's program is one of workers alone") != std::string::npos);
}

ASYNC_TEST("a schedule runs in one worker after the other, in all of them, or in the agent") {
  auto options = townhall::options(2, "job=0");
  options.agents.push_back(townhall::agent("cache", "job=0"));
  schedule work("work");
  work.every(20ms).missed(missed_runs::run_once);  // a machine that stalls is late for one or the other
  SUBCASE("one") {
    options.schedules.push_back({work.on_one_worker(), nullptr});
    auto t = co_await townhall::open(options);
    co_await t->c->until(event_kind::schedule_ran, 4);
    std::vector<unsigned> slots;
    for (const auto& each : t->c->events) {
      if (each.what != event_kind::schedule_ran) continue;
      CHECK(each.run->ok);
      slots.push_back(each.slot);
    }
    slots.resize(4);
    const std::vector<unsigned> in_turn{1, 2, 1, 2};
    CHECK(slots == in_turn);
    co_await t->c->stop();
  }
  SUBCASE("all") {
    options.schedules.push_back({work.on_all_workers(), nullptr});
    auto t = co_await townhall::open(options);
    co_await t->c->until(event_kind::schedule_ran, 2);
    for (unsigned slot = 1; slot <= 2; ++slot) {
      const auto text = co_await t->until_heard(recipient::slot(slot), "done ");
      CHECK(text.find("work done ") != std::string::npos);
    }
    co_await t->c->stop();
  }
  SUBCASE("agent") {
    options.schedules.push_back({work.on_agent("cache"), nullptr});
    auto t = co_await townhall::open(options);
    co_await t->c->until(event_kind::schedule_ran, 2);
    CHECK(t->c->last(event_kind::schedule_ran).slot == 0);
    CHECK(t->c->last(event_kind::schedule_ran).run->ok);
    const auto text = co_await t->heard(recipient::agent("cache"));
    CHECK(text.find("work done ") != std::string::npos);
    co_await t->c->stop();
  }
}

ASYNC_TEST("a run that throws, or has no job, is a result and nothing more") {
  auto options = townhall::options(1, "job=-1");
  options.schedules.push_back({schedule("work").at_start(), nullptr});
  options.schedules.push_back({schedule("play").at_start(), nullptr});
  auto t = co_await townhall::open(options);
  co_await t->c->until(event_kind::schedule_ran, 2);
  for (const auto& each : t->c->events) {
    if (each.what != event_kind::schedule_ran) continue;
    CHECK_FALSE(each.run->ok);
    if (each.run->name == "work") CHECK(each.run->what == "no work today");
    if (each.run->name == "play") CHECK(each.run->what.find("no such job") != std::string::npos);
  }
  CHECK(t->c->count(event_kind::exited) == 0);
  co_await t->c->stop();
}

ASYNC_TEST("a run whose worker is killed begins again in another one if it is to run at least once") {
  auto options = townhall::options(2, "job=3600000");
  schedule work("work");
  work.at_start().on_one_worker().at_least_once(2);
  options.schedules.push_back({work, nullptr});
  auto t = co_await townhall::open(options);
  const auto begun = co_await t->until_heard(recipient::slot(1), "work");
  REQUIRE(begun.find("work") != std::string::npos);
  ::kill(t->c->pid(1), SIGKILL);
  const auto again = co_await t->until_heard(recipient::slot(2), "work");
  CHECK(again.find("work") != std::string::npos);
  t->c->primary.kill("the test ends");
  co_await t->c->ended();
  const auto& last = t->c->last(event_kind::schedule_ran);
  CHECK(last.run->attempt == 2);
  CHECK(last.slot == 2);
}

ASYNC_TEST("a stop waits for a run that is under way") {
  auto options = townhall::options(1, "job=100");
  options.schedules.push_back({schedule("work").at_start(), nullptr});
  auto t = co_await townhall::open(options);
  co_await t->until_heard(recipient::slot(1), "work");
  const int status = co_await t->c->stop();
  CHECK(status == 0);
  REQUIRE(t->c->count(event_kind::schedule_ran) == 1);
  CHECK(t->c->last(event_kind::schedule_ran).run->ok);
}

ASYNC_TEST("a schedule for an agent that is not there is refused") {
  auto options = townhall::options(1);
  options.schedules.push_back({schedule("work").at_start().on_agent("cache"), nullptr});
  const auto text = co_await refusal(options);
  CHECK(text.find("schedule \"work\": there is no agent cache") != std::string::npos);
}

}  // namespace cohort::test::agent_test
