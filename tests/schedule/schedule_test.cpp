// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/schedule/schedule.hpp"

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "../../include/cohort/schedule/planner.hpp"
#include "../support/harness.hpp"

namespace cohort::test::schedule_test {
namespace {

using kind = schedule_run::kind;
using time_point = schedule::time_point;
using nanoseconds = time_point::duration;

/// 2024-01-01 00:00:00 UTC, a Monday.
const time_point midnight(1704067200s);

schedule each_minute(std::string name = "job") {
  schedule what(std::move(name));
  what.at(cron("* * * * *"), time_zone::utc);
  return what;
}

schedule every(schedule::duration interval) {
  schedule what("job");
  what.every(interval);
  return what;
}

schedule_planner plan(schedule what, time_point start = midnight) {
  std::vector<schedule> list;
  list.push_back(std::move(what));
  return schedule_planner(std::move(list), start, 1);
}

/// What one schedule has been told: "begin 60", "late 120", with the seconds since midnight that they are for.
std::vector<std::string> told(const std::vector<schedule_run>& runs) {
  std::vector<std::string> texts;
  for (const auto& each : runs) {
    const char* what = each.what == kind::begin ? "begin" : each.what == kind::late ? "late" : "overlapping";
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(each.due - midnight).count();
    texts.push_back(std::string(what) + ' ' + std::to_string(seconds));
    if (each.attempt > 1) texts.back() += " again " + std::to_string(each.attempt);
  }
  return texts;
}

using texts = std::vector<std::string>;

/// Looks, and ends at once what begins.
texts pass(schedule_planner& planner, nanoseconds at) {
  const auto runs = planner.look(midnight + at);
  for (const auto& each : runs) {
    if (each.what == kind::begin) planner.ended(each, midnight + at);
  }
  return told(runs);
}

std::optional<nanoseconds> next(const schedule_planner& planner) {
  const auto time = planner.next();
  return time ? std::optional<nanoseconds>(*time - midnight) : std::nullopt;
}

std::string refusal(const std::function<void()>& build) {
  try {
    build();
  } catch (const std::system_error& error) {
    CHECK(error.code() == errc::invalid_option);
    return error.what();
  }
  return {};
}

PLAIN_TEST("a schedule that cannot be is refused with its name and value") {
  CHECK(refusal([] { schedule(""); }) == "schedule: an empty name: invalid option");
  CHECK(refusal([] { schedule("a").every(0ms); }) == "schedule \"a\": every 0 ms: invalid option");
  CHECK(refusal([] { schedule("a").every(-1ms); }) == "schedule \"a\": every -1 ms: invalid option");
  CHECK(refusal([] { schedule("a").every(schedule::longest + 1ms); }) ==
        "schedule \"a\": every 315360000001 ms: invalid option");
  CHECK(refusal([] { schedule("a").jitter(-1ms); }) == "schedule \"a\": jitter -1 ms: invalid option");
  CHECK(refusal([] { schedule("a").lateness(-1ms); }) == "schedule \"a\": lateness -1 ms: invalid option");
  CHECK(refusal([] { schedule("a").every(1s).every(1s); }) ==
        "schedule \"a\": every: it has times already: invalid option");
  CHECK(refusal([] { schedule("a").every(1s).at(cron("@daily")); }) ==
        "schedule \"a\": at: it has times already: invalid option");
}

PLAIN_TEST("a list of schedules that cannot be is refused") {
  CHECK(refusal([] { plan(schedule("a")); }) == "schedule \"a\": it has no times: invalid option");
  CHECK(refusal([] { plan(every(1s).jitter(1s)); }) ==
        "schedule \"job\": a jitter not below the interval: invalid option");
  CHECK(refusal([] {
          schedule_planner({each_minute("a"), each_minute("b"), each_minute("a")}, midnight);
        }) == "schedule \"a\": the name is used twice: invalid option");
}

PLAIN_TEST("a schedule runs in one worker at most once, unless it says otherwise") {
  schedule what("a");
  CHECK(what.place() == schedule_place::one_worker);
  CHECK(what.attempts() == 1);
  CHECK(what.at_least_once().attempts() == 5);
  CHECK(what.at_least_once(0).attempts() == 1);
  CHECK(what.at_least_once(3).on_agent().attempts() == 3);
  CHECK(what.on_all_workers().attempts() == 1);
}

PLAIN_TEST("an interval begins with the start and keeps its beat") {
  auto planner = plan(every(10s));
  CHECK(next(planner) == 10s);
  CHECK(pass(planner, 0s).empty());
  CHECK(pass(planner, 9999ms).empty());
  CHECK(pass(planner, 10s) == texts{"begin 10"});
  CHECK(pass(planner, 10s).empty());
  CHECK(next(planner) == 20s);
  CHECK(pass(planner, 23s) == texts{"begin 20"});
  CHECK(next(planner) == 30s);
}

PLAIN_TEST("a timetable has its times") {
  auto planner = plan(each_minute());
  CHECK(next(planner) == 60s);
  CHECK(pass(planner, 59s).empty());
  CHECK(pass(planner, 60s) == texts{"begin 60"});
  CHECK(pass(planner, 119s).empty());
  CHECK(pass(planner, 120s) == texts{"begin 120"});
}

PLAIN_TEST("the start alone is one run, and may come before other times") {
  schedule once("once");
  auto planner = plan(once.at_start());
  CHECK(next(planner) == 0s);
  CHECK(pass(planner, 0s) == texts{"begin 0"});
  CHECK(next(planner) == std::nullopt);
  CHECK(pass(planner, 1000h).empty());

  auto both = plan(each_minute().at_start(), midnight + 30s);
  CHECK(pass(both, 30s) == texts{"begin 30"});
  CHECK(pass(both, 60s) == texts{"begin 60"});
}

PLAIN_TEST("the run at the start is never missed") {
  schedule once("once");
  auto planner = plan(once.at_start().lateness(0ms));
  CHECK(pass(planner, 5h) == texts{"begin 0"});
}

PLAIN_TEST("a run that is a little late begins, and one that is too late is missed") {
  schedule daily("daily");
  daily.at(cron("@daily"), time_zone::utc).lateness(5s);
  auto late = plan(daily);
  CHECK(pass(late, 24h + 5s) == texts{"begin 86400"});
  auto too_late = plan(daily);
  CHECK(pass(too_late, 24h + 5001ms) == texts{"late 86400"});
  CHECK(next(too_late) == 48h);
}

PLAIN_TEST("missed runs are made up for by one, if so wanted") {
  auto planner = plan(every(1h).missed(missed_runs::run_once));
  CHECK(pass(planner, 5h + 30min) == texts{"begin 3600"});
  CHECK(next(planner) == 6h);
  auto skipping = plan(every(1h));
  CHECK(pass(skipping, 5h + 30min) == texts{"late 3600"});
  CHECK(next(skipping) == 6h);
}

PLAIN_TEST("times that pass together are one run, if the last of them is not too late") {
  auto planner = plan(every(1s).lateness(0ms));
  CHECK(pass(planner, 1h + 500ms) == texts{"late 1"});
  auto tolerant = plan(every(1s).lateness(2s));
  CHECK(pass(tolerant, 1h + 500ms) == texts{"begin 3599"});
  CHECK(next(tolerant) == 1h + 1s);
  auto minutes = plan(each_minute().lateness(2s));
  CHECK(pass(minutes, 1h + 1s) == texts{"begin 3600"});
}

PLAIN_TEST("a run does not begin while the one before runs") {
  auto planner = plan(every(10s));
  const auto first = planner.look(midnight + 10s);
  CHECK(told(first) == texts{"begin 10"});
  CHECK(planner.running(0) == 1);
  CHECK(pass(planner, 20s) == texts{"overlapping 20"});
  CHECK_FALSE(planner.ended(first[0], midnight + 25s));
  CHECK(planner.running(0) == 0);
  CHECK(pass(planner, 25s).empty());
  CHECK(pass(planner, 30s) == texts{"begin 30"});
}

PLAIN_TEST("runs that were missed because one was under way are made up for by one when it has ended") {
  auto planner = plan(every(10s).missed(missed_runs::run_once));
  const auto first = planner.look(midnight + 10s);
  CHECK(pass(planner, 20s).empty());
  CHECK(pass(planner, 30s).empty());
  CHECK(next(planner) == 40s);
  planner.ended(first.at(0), midnight + 35s);
  CHECK(next(planner) == 30s);  // in the past: at once
  CHECK(pass(planner, 35s) == texts{"begin 30"});
  CHECK(pass(planner, 36s).empty());
  CHECK(pass(planner, 40s) == texts{"begin 40"});
}

PLAIN_TEST("a run that is due takes the place of one that was missed") {
  auto planner = plan(every(10s).missed(missed_runs::run_once));
  const auto first = planner.look(midnight + 10s);
  CHECK(pass(planner, 20s).empty());
  planner.ended(first.at(0), midnight + 30s);
  CHECK(pass(planner, 30s) == texts{"begin 30"});
  CHECK(pass(planner, 31s).empty());
}

PLAIN_TEST("runs overlap where that is allowed") {
  auto planner = plan(every(10s).allow_overlap());
  const auto first = planner.look(midnight + 10s), second = planner.look(midnight + 20s);
  CHECK(told(second) == texts{"begin 20"});
  CHECK(planner.running(0) == 2);
  planner.ended(second.at(0), midnight + 21s);
  planner.ended(first.at(0), midnight + 21s);
  CHECK(planner.running(0) == 0);
}

PLAIN_TEST("a run that has lost its worker is tried again after a pause, up to the number of attempts") {
  auto planner = plan(every(1min).at_least_once(3));
  auto runs = planner.look(midnight + 60s);
  CHECK(planner.ended(runs.at(0), midnight + 61s, true));
  CHECK(planner.running(0) == 1);
  CHECK(next(planner) == 62s);
  CHECK(planner.look(midnight + 61s).empty());
  runs = planner.look(midnight + 62s);
  CHECK(told(runs) == texts{"begin 60 again 2"});
  CHECK(planner.ended(runs.at(0), midnight + 70s, true));
  runs = planner.look(midnight + 71s);
  CHECK(told(runs) == texts{"begin 60 again 3"});
  CHECK_FALSE(planner.ended(runs.at(0), midnight + 80s, true));
  CHECK(planner.running(0) == 0);
  CHECK(next(planner) == 120s);
}

PLAIN_TEST("a run is not tried again if it may run once only, or has come to its end") {
  auto once = plan(every(1min));
  const auto lost = once.look(midnight + 60s);
  CHECK_FALSE(once.ended(lost.at(0), midnight + 61s, true));
  CHECK(next(once) == 120s);
  auto repeated = plan(every(1min).at_least_once());
  const auto ended = repeated.look(midnight + 60s);
  CHECK_FALSE(repeated.ended(ended.at(0), midnight + 61s));
  CHECK(next(repeated) == 120s);
}

PLAIN_TEST("what waits to be tried again is under way") {
  auto planner = plan(every(1s).at_least_once());
  const auto runs = planner.look(midnight + 1s);
  CHECK(planner.ended(runs.at(0), midnight + 1500ms, true));
  CHECK(pass(planner, 2s) == texts{"overlapping 2"});
  CHECK(pass(planner, 2500ms) == texts{"begin 1 again 2"});
}

PLAIN_TEST("jitter makes each run later by less than its limit, and does not add up") {
  schedule_planner planner({every(10s).jitter(5s)}, midnight, 42);
  nanoseconds least = 5s, most = 0s;
  for (int beat = 1; beat <= 500; ++beat) {
    const auto due = next(planner);
    REQUIRE(due);
    const auto delay = *due - beat * 10s;
    REQUIRE(delay >= 0s);
    REQUIRE(delay < 5s);
    least = std::min(least, delay), most = std::max(most, delay);
    CHECK(pass(planner, *due - 1ns).empty());
    CHECK(pass(planner, *due) == texts{"begin " + std::to_string(beat * 10)});
  }
  CHECK(least < 500ms);
  CHECK(most > 4500ms);
}

PLAIN_TEST("a run that jitter delays is not late for that") {
  schedule_planner planner({every(10s).jitter(9s).lateness(0ms)}, midnight, 42);
  for (int beat = 1; beat <= 20; ++beat) {
    const auto due = next(planner);
    REQUIRE(due);
    CHECK(pass(planner, *due) == texts{"begin " + std::to_string(beat * 10)});
  }
}

PLAIN_TEST("a run that was due since the last one is missed") {
  schedule daily("daily");
  daily.at(cron("@daily"), time_zone::utc).last_run(midnight - 30h);
  auto skipping = plan(daily, midnight + 1h);
  CHECK(pass(skipping, 1h) == texts{"late -86400"});
  CHECK(next(skipping) == 24h);
  auto caught_up = plan(daily.missed(missed_runs::run_once), midnight + 1h);
  CHECK(pass(caught_up, 1h) == texts{"begin -86400"});
  CHECK(next(caught_up) == 24h);
}

PLAIN_TEST("an interval goes on from the last run") {
  auto planner = plan(every(1h).last_run(midnight - 20min));
  CHECK(next(planner) == 40min);
  CHECK(pass(planner, 40min) == texts{"begin 2400"});
  auto missed = plan(every(1h).last_run(midnight - 90min));
  CHECK(pass(missed, 0s) == texts{"late -1800"});
  CHECK(next(missed) == 30min);
  auto future = plan(every(1h).last_run(midnight + 100h));
  CHECK(next(future) == 1h);
}

PLAIN_TEST("an interval goes back with a clock that is set back, and times of a timetable do not come again") {
  auto beat = plan(every(1h));
  CHECK(pass(beat, 90min) == texts{"late 3600"});
  CHECK(pass(beat, 30min).empty());
  CHECK(next(beat) == 1h);
  CHECK(pass(beat, 1h) == texts{"begin 3600"});

  auto minutes = plan(each_minute());
  CHECK(pass(minutes, 1h) == texts{"begin 3600"});
  CHECK(pass(minutes, 30min).empty());
  CHECK(pass(minutes, 1h).empty());
  CHECK(pass(minutes, 1h + 1min) == texts{"begin 3660"});
}

PLAIN_TEST("a clock that is set right by more than three hours begins the timetable anew") {
  auto planner = plan(each_minute());
  CHECK(pass(planner, 1000h) == texts{"begin 3600000"});
  CHECK(pass(planner, 2h).empty());
  CHECK(next(planner) == 2h + 1min);
  CHECK(pass(planner, 2h + 1min) == texts{"begin 7260"});
}

PLAIN_TEST("a pause before another attempt goes back with the clock") {
  auto planner = plan(every(1h).at_least_once());
  const auto runs = planner.look(midnight + 1h);
  planner.ended(runs.at(0), midnight + 1h, true);
  CHECK(planner.look(midnight + 10min).empty());
  CHECK(next(planner) == 10min + 1s);
}

PLAIN_TEST("several schedules are told apart") {
  schedule_planner planner({each_minute("a"), each_minute("b").on_agent(), every(90s)}, midnight, 1);
  CHECK(planner.size() == 3);
  CHECK(planner.at(1).name() == "b");
  const auto at_60 = planner.look(midnight + 60s);
  CHECK(told(at_60) == texts{"begin 60", "begin 60"});
  CHECK(at_60[0].which == 0);
  CHECK(at_60[1].which == 1);
  CHECK(next(planner) == 90s);
  const auto at_90 = planner.look(midnight + 90s);
  CHECK(told(at_90) == texts{"begin 90"});
  CHECK(at_90[0].which == 2);
}

PLAIN_TEST(
    "whatever happens when, none overlaps, each time is told once at most and looking when asked misses nothing") {
  std::mt19937 random(7);
  for (int run = 0; run < 200; ++run) {
    CAPTURE(run);
    const bool catches_up = random() % 2 == 0;
    auto planner = plan(every(10s).missed(catches_up ? missed_runs::run_once : missed_runs::skip).at_least_once(2));
    std::optional<schedule_run> running;
    auto now = midnight, last_due = midnight - 1s;
    int begun = 0;
    for (int step = 0; step < 200; ++step) {
      const auto wanted = planner.next();
      REQUIRE(wanted);
      now = std::max(now, random() % 3 == 0 ? now + std::chrono::milliseconds(random() % 5000) : *wanted);
      for (const auto& each : planner.look(now)) {
        if (each.what != kind::begin) {
          CHECK(each.what == kind::overlapping);
          CHECK_FALSE(catches_up);
          CHECK(planner.running(0) == 1);
          continue;
        }
        ++begun;
        if (each.attempt == 1) {
          CHECK(each.due > last_due);
          CHECK((each.due - midnight) % 10s == 0s);
          last_due = each.due;
        }
        CHECK(each.attempt <= 2);
        CHECK_FALSE(running);
        running = each;
      }
      if (running && random() % 2 == 0) {
        planner.ended(*running, now, random() % 2 == 0);
        running.reset();
      }
    }
    CHECK(begun > 10);
  }
}

}  // namespace
}  // namespace cohort::test::schedule_test
