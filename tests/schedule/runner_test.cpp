// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/schedule/runner.hpp"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "../support/cancellation.hpp"
#include "../support/harness.hpp"

namespace cohort::test::runner_test {
namespace {

using time_point = schedule::time_point;
using texts = std::vector<std::string>;

const time_point midnight(1704067200s);  // 2024-01-01 00:00:00 UTC

/// Time that passes when the test says so.
class virtual_clock {
 public:
  explicit virtual_clock(asio::any_io_executor executor) : moved_(std::move(executor)) {}

  time_point now() const { return now_; }

  asio::awaitable<void> sleep_until(time_point time) {
    const auto self = wanted_.insert(time);
    struct removal {
      virtual_clock& clock;
      std::multiset<time_point>::iterator at;
      ~removal() { clock.wanted_.erase(at); }
    };
    const removal ended{*this, self};
    while (now_ < time) co_await moved_.wait();
  }

  /// Goes from one moment that somebody sleeps for to the next, and lets all that happens then happen.
  asio::awaitable<void> pass(std::chrono::milliseconds duration) {
    const auto end = now_ + duration;
    co_await yield(settle);
    while (!wanted_.empty() && *wanted_.begin() <= end) {
      now_ = std::max(now_, *wanted_.begin());
      moved_.notify();
      co_await yield(settle);
    }
    now_ = end;
  }

  /// Is set: what sleeps is not told.
  void set(time_point time) { now_ = time; }

  std::size_t sleeping() const { return wanted_.size(); }

 private:
  static constexpr int settle = 20;

  time_point now_ = midnight;
  std::multiset<time_point> wanted_;
  event moved_;
};

/// Workers in which a run takes as long as the test says.
class fake_crew {
 public:
  explicit fake_crew(virtual_clock& clock) : clock_(clock) {}

  std::vector<unsigned> live{1, 2, 3};
  std::chrono::milliseconds takes{0};
  std::map<unsigned, std::string> failing;  // "die": the worker dies; else it is what the job throws
  std::chrono::seconds sets_back{0};        // the clock, at its end
  bool report_fails = false, has_no_list = false;

  std::vector<std::string> begun;  // "job@2 60"
  std::vector<schedule_result> results;
  int under_way = 0;

  std::vector<unsigned> workers() const {
    if (has_no_list) throw std::runtime_error("no list");
    return live;
  }

  asio::awaitable<void> perform(const schedule& what, unsigned worker) {
    begun.push_back(what.name() + '@' + std::to_string(worker) + ' ' + seconds(clock_.now()));
    struct counted {
      explicit counted(int& count) : under_way(count) { ++under_way; }
      counted(const counted&) = delete;
      ~counted() { --under_way; }
      int& under_way;
    };
    const counted here(under_way);
    if (takes > 0ms) co_await clock_.sleep_until(clock_.now() + takes);
    if (sets_back > 0s) clock_.set(clock_.now() - sets_back);
    const auto failure = failing.find(worker);
    if (failure == failing.end()) co_return;
    if (failure->second == "die") throw_error("call", errc::peer_closed);
    if (failure->second == "42") throw 42;
    throw std::runtime_error(failure->second);
  }

  void ended(const schedule_result& result) {
    if (report_fails) throw std::runtime_error("no room");
    results.push_back(result);
  }

  /// "job@2 60 +5: ok", with the start and the duration in seconds.
  texts told() const {
    texts lines;
    for (const auto& each : results) {
      lines.push_back(each.name + '@' + std::to_string(each.worker) + ' ' + seconds(each.started) + " +" +
                      std::to_string(each.duration / 1s) + ": " + (each.ok ? "ok" : each.what));
    }
    return lines;
  }

  static std::string seconds(time_point time) { return std::to_string((time - midnight) / 1s); }

 private:
  virtual_clock& clock_;
};

static_assert(schedule_clock<virtual_clock>);
static_assert(schedule_clock<wall_clock>);
static_assert(schedule_host<fake_crew>);

schedule every(std::chrono::seconds interval, std::string name = "job") {
  schedule what(std::move(name));
  what.every(interval);
  return what;
}

/// Schedules that run beside the test.
struct scene {
  template <class... Schedules>
  explicit scene(asio::any_io_executor executor, Schedules... list)
      : clock(executor), crew(clock), planner({list...}, midnight, 1), stop(executor), running(executor) {}

  void start() {
    running.start(run_schedules(planner, clock, crew, stop), [this](std::exception_ptr thrown) {
      has_ended = true;
      failure = thrown;
    });
  }

  std::string failed() const {
    try {
      if (failure) std::rethrow_exception(failure);
    } catch (const std::exception& error) {
      return error.what();
    }
    return {};
  }

  asio::awaitable<void> end() {
    stop.set();
    co_await running.wait_empty();
    co_await yield(5);
  }

  virtual_clock clock;
  fake_crew crew;
  schedule_planner planner;
  event stop;
  bool has_ended = false;
  std::exception_ptr failure;
  task_group running;
};

ASYNC_TEST("an interval runs in one worker after the other") {
  scene s(co_await asio::this_coro::executor, every(10s));
  s.start();
  co_await s.clock.pass(45s);
  CHECK(s.crew.told() == texts{"job@1 10 +0: ok", "job@2 20 +0: ok", "job@3 30 +0: ok", "job@1 40 +0: ok"});
  s.crew.live = {3, 2};
  co_await s.clock.pass(20s);
  CHECK(s.crew.begun.at(4) == "job@2 50");
  CHECK(s.crew.begun.at(5) == "job@3 60");
  co_await s.end();
  CHECK(s.has_ended);
  CHECK(s.failed().empty());
}

ASYNC_TEST("a timetable runs at its times, at the start as well if so wanted") {
  schedule what("job");
  what.at(cron("30 3 * * *"), time_zone::utc).at_start();
  scene s(co_await asio::this_coro::executor, what);
  s.start();
  co_await s.clock.pass(48h);
  CHECK(s.crew.begun == texts{"job@1 0", "job@2 12600", "job@3 99000"});
  co_await s.end();
}

ASYNC_TEST("a schedule for all workers runs in each that lives, and tells of each") {
  scene s(co_await asio::this_coro::executor, every(10s).on_all_workers());
  s.crew.failing[2] = "no space";
  s.crew.takes = 2s;
  s.start();
  co_await s.clock.pass(15s);
  CHECK(s.crew.told() == texts{"job@1 10 +2: ok", "job@2 10 +2: no space", "job@3 10 +2: ok"});
  CHECK(s.planner.running(0) == 0);
  co_await s.end();
}

ASYNC_TEST("a run in all workers has ended when the last of them has") {
  scene s(co_await asio::this_coro::executor, every(10s).on_all_workers());
  s.crew.takes = 12s;
  s.start();
  co_await s.clock.pass(25s);
  CHECK(s.crew.told() == texts{"job@0 20 +0: missed: the run before has not ended", "job@1 10 +12: ok",
                               "job@2 10 +12: ok", "job@3 10 +12: ok"});
  CHECK(s.crew.begun.size() == 3);
  co_await s.end();
}

ASYNC_TEST("a schedule for the agent runs there, without any worker") {
  scene s(co_await asio::this_coro::executor, every(10s).on_agent());
  s.crew.live.clear();
  s.start();
  co_await s.clock.pass(10s);
  CHECK(s.crew.told() == texts{"job@0 10 +0: ok"});
  co_await s.end();
}

ASYNC_TEST("a run that fails is a result, and the next one begins at its time") {
  scene s(co_await asio::this_coro::executor, every(10s).at_least_once());
  s.crew.failing = {{1, "no space"}, {2, "42"}};
  s.start();
  co_await s.clock.pass(30s);
  CHECK(s.crew.told() ==
        texts{"job@1 10 +0: no space", "job@2 20 +0: an exception that is no std::exception", "job@3 30 +0: ok"});
  co_await s.end();
}

ASYNC_TEST("at least once: a run that dies with its worker begins again in another one") {
  scene s(co_await asio::this_coro::executor, every(10s).at_least_once());
  s.crew.failing[1] = "die";
  s.crew.takes = 3s;
  s.start();
  co_await s.clock.pass(18s);
  CHECK(s.crew.told() == texts{"job@1 10 +3: call: the peer closed the channel", "job@2 14 +3: ok"});
  CHECK(s.crew.results.at(1).attempt == 2);
  CHECK(s.crew.results.at(1).due == midnight + 10s);
  co_await s.end();
}

ASYNC_TEST("at most once: a run that dies with its worker is not repeated") {
  scene s(co_await asio::this_coro::executor, every(10s));
  s.crew.failing[1] = "die";
  s.start();
  co_await s.clock.pass(19s);
  CHECK(s.crew.told() == texts{"job@1 10 +0: call: the peer closed the channel"});
  co_await s.end();
}

ASYNC_TEST("a job that kills each worker is tried as often as it may") {
  scene s(co_await asio::this_coro::executor, every(60s).at_least_once(3));
  s.crew.failing = {{1, "die"}, {2, "die"}, {3, "die"}};
  s.start();
  co_await s.clock.pass(119s);
  CHECK(s.crew.begun == texts{"job@1 60", "job@2 61", "job@3 62"});
  CHECK(s.planner.running(0) == 0);
  co_await s.end();
}

ASYNC_TEST("without a worker the run fails, or waits for one to come") {
  scene s(co_await asio::this_coro::executor, every(10s, "once"), every(10s, "repeated").at_least_once());
  s.crew.live.clear();
  s.start();
  co_await s.clock.pass(11500ms);
  CHECK(s.crew.told() == texts{"once@0 10 +0: there is no worker", "repeated@0 10 +0: there is no worker",
                               "repeated@0 11 +0: there is no worker"});
  s.crew.live = {7};
  co_await s.clock.pass(3s);
  CHECK(s.crew.begun == texts{"repeated@7 12"});
  co_await s.end();
}

ASYNC_TEST("runs of one schedule overlap only where that is allowed, and those of others are beside it") {
  scene s(co_await asio::this_coro::executor, every(10s, "alone"), every(10s, "together").allow_overlap(),
          every(7s, "other"));
  s.crew.takes = 15s;
  s.start();
  co_await s.clock.pass(20s);
  CHECK(s.crew.begun == texts{"other@1 7", "alone@1 10", "together@1 10", "together@2 20"});
  CHECK(s.crew.told() == texts{"other@0 14 +0: missed: the run before has not ended",
                               "alone@0 20 +0: missed: the run before has not ended"});
  co_await s.clock.pass(6s);
  CHECK(s.crew.under_way == 1);
  s.stop.set();
  co_await s.clock.pass(1min);
  CHECK(s.has_ended);
}

ASYNC_TEST("a run that was put off begins when the one before has ended") {
  scene s(co_await asio::this_coro::executor, every(10s).missed(missed_runs::run_once));
  s.crew.takes = 25s;
  s.start();
  co_await s.clock.pass(36s);
  CHECK(s.crew.begun == texts{"job@1 10", "job@2 35"});
  s.stop.set();
  co_await s.clock.pass(1min);
  CHECK(s.has_ended);
}

ASYNC_TEST("a clock that was put forward makes runs late") {
  scene s(co_await asio::this_coro::executor, every(10s));
  s.start();
  co_await s.clock.pass(5s);
  s.clock.set(midnight + 3595s);
  co_await s.clock.pass(20s);
  CHECK(s.crew.told().at(0) == "job@1 3595 +0: ok");  // for 3590, which is not too late
  CHECK(s.crew.results.at(0).due == midnight + 3590s);
  CHECK(s.crew.begun == texts{"job@1 3595", "job@2 3600", "job@3 3610"});
  co_await s.end();
}

ASYNC_TEST("a run that is too late is told as missed") {
  schedule what("job");
  what.at(cron("@daily"), time_zone::utc);
  scene s(co_await asio::this_coro::executor, what);
  s.start();
  co_await s.clock.pass(23h);
  s.clock.set(midnight + 30h);
  co_await s.clock.pass(1s);
  CHECK(s.crew.begun.empty());
  CHECK(s.crew.told() == texts{"job@0 108000 +0: missed: its time has passed"});
  CHECK(s.crew.results.at(0).due == midnight + 24h);
  co_await s.clock.pass(24h);
  CHECK(s.crew.begun == texts{"job@1 172800"});
  co_await s.end();
}

ASYNC_TEST("a duration is not negative, whatever the clock does") {
  scene s(co_await asio::this_coro::executor, every(10s));
  s.crew.takes = 1s;
  s.crew.sets_back = 5s;
  s.start();
  co_await s.clock.pass(11s);
  CHECK(s.clock.now() == midnight + 11s);
  CHECK(s.crew.told() == texts{"job@1 10 +0: ok"});
  co_await s.end();
}

ASYNC_TEST("after a stop none begins, and those under way end") {
  scene s(co_await asio::this_coro::executor, every(10s).at_least_once());
  s.crew.takes = 5s;
  s.start();
  co_await s.clock.pass(12s);
  s.stop.set();
  co_await yield(50);
  CHECK_FALSE(s.has_ended);
  CHECK(s.crew.under_way == 1);
  CHECK(s.clock.sleeping() == 1);  // the run, and nobody for the next one
  co_await s.clock.pass(1min);
  CHECK(s.has_ended);
  CHECK(s.failed().empty());
  CHECK(s.crew.told() == texts{"job@1 10 +5: ok"});
  CHECK(s.clock.sleeping() == 0);
}

ASYNC_TEST("a run that dies with its worker after a stop is not tried again") {
  scene s(co_await asio::this_coro::executor, every(10s).at_least_once());
  s.crew.failing[1] = "die";
  s.crew.takes = 5s;
  s.start();
  co_await s.clock.pass(12s);
  s.stop.set();
  co_await s.clock.pass(1min);
  CHECK(s.has_ended);
  CHECK(s.crew.begun.size() == 1);
}

ASYNC_TEST("a stop before the start lets nothing begin") {
  schedule once("once");
  scene s(co_await asio::this_coro::executor, once.at_start());
  s.stop.set();
  s.start();
  co_await yield(50);
  CHECK(s.has_ended);
  CHECK(s.crew.begun.empty());
}

ASYNC_TEST("without anything to come it waits for the stop") {
  schedule once("once");
  scene s(co_await asio::this_coro::executor, once.at_start());
  s.start();
  co_await s.clock.pass(1h);
  CHECK(s.crew.begun == texts{"once@1 0"});
  CHECK_FALSE(s.has_ended);
  co_await s.end();
  CHECK(s.has_ended);
}

ASYNC_TEST("what the crew throws when it hears of a result ends all runs") {
  scene s(co_await asio::this_coro::executor, every(10s, "long"), every(12s, "short"));
  s.crew.takes = 5s;
  s.start();
  co_await s.clock.pass(14s);
  CHECK(s.crew.under_way == 2);
  s.crew.report_fails = true;
  co_await s.clock.pass(2s);
  CHECK(s.has_ended);
  CHECK(s.failed() == "no room");
  CHECK(s.crew.under_way == 0);
}

ASYNC_TEST("what the crew throws after a stop ends those that are still under way") {
  scene s(co_await asio::this_coro::executor, every(10s, "long"), every(12s, "short"));
  s.crew.takes = 5s;
  s.start();
  co_await s.clock.pass(14s);
  s.stop.set();
  s.crew.report_fails = true;
  co_await s.clock.pass(1500ms);
  CHECK(s.clock.now() == midnight + 15500ms);
  CHECK(s.has_ended);
  CHECK(s.failed() == "no room");
  CHECK(s.crew.under_way == 0);
}

ASYNC_TEST("what the crew throws when it is asked for its workers is thrown") {
  scene s(co_await asio::this_coro::executor, every(10s));
  s.crew.has_no_list = true;
  s.start();
  co_await s.clock.pass(10s);
  CHECK(s.has_ended);
  CHECK(s.failed() == "no list");
}

PLAIN_TEST("cancelled at any moment, it ends its runs and tells of them, and the planner can go on") {
  const auto runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    schedule what("job");
    scene s(executor, what.every(10s).at_start().allow_overlap());
    s.crew.takes = 15s;
    task_group passing(executor);
    const auto drive = [](scene& scene) -> asio::awaitable<void> {
      co_await scene.clock.pass(26s);
      scene.stop.set();
      co_await scene.clock.pass(1min);
    };
    passing.start(drive(s), [](std::exception_ptr) {});
    const bool completed = co_await cancelled(run_schedules(s.planner, s.clock, s.crew, s.stop));
    CHECK(s.crew.under_way == 0);
    CHECK(s.crew.results.size() == s.crew.begun.size());
    CHECK((completed || cancelled.emitted()));  // both, when all had ended already
    passing.cancel();
    co_await passing.wait_empty();
    CHECK(s.clock.sleeping() == 0);
    if (completed) CHECK(s.crew.told() == texts{"job@1 0 +15: ok", "job@2 10 +15: ok", "job@3 20 +15: ok"});

    s.stop.reset();
    s.crew.takes = 0ms;
    s.crew.begun.clear();
    s.start();
    co_await s.clock.pass(30s);
    CHECK_FALSE(s.crew.begun.empty());
    co_await s.end();
    CHECK(s.failed().empty());
  });
  CHECK(runs > 20);
}

ASYNC_TEST("the clock of the system returns at once for a time that has passed") {
  const wall_clock clock;
  co_await clock.sleep_until(clock.now() - 1h);
  const auto time = clock.now() + 2ms;
  while (clock.now() < time) co_await clock.sleep_until(time);
  CHECK(clock.now() >= time);
}

PLAIN_TEST("a sleep by the clock of the system can be cancelled") {
  const auto runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const wall_clock clock;
    const bool completed = co_await cancelled(clock.sleep_until(clock.now() + 1ms));
    CHECK((completed || cancelled.emitted()));
  });
  CHECK(runs > 0);
}

}  // namespace
}  // namespace cohort::test::runner_test
