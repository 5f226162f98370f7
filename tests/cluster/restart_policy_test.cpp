// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/cluster/restart_policy.hpp"

#include <chrono>
#include <cstddef>
#include <deque>
#include <optional>
#include <random>

#include "../support/harness.hpp"

namespace cohort::test::restart_policy_test {
namespace {

using time_point = restart_policy::clock::time_point;
using history = restart_policy::history;
using milliseconds = std::chrono::milliseconds;

time_point at(std::chrono::milliseconds since_start) { return time_point() + since_start; }

/// A policy without jitter, and a past in which a worker has been ready.
struct scene {
  scene() {
    policy.jitter = 0;
    policy.note_ready(past);
  }

  std::optional<milliseconds> next(milliseconds now, bool was_ready = true) {
    return policy.next(past, at(now), was_ready ? std::optional<milliseconds>(0) : std::nullopt, 0.5);
  }

  restart_policy policy;
  history past;
};

PLAIN_TEST("restarts are made at once up to the limit") {
  scene s;
  s.policy.max_restarts = 3;
  for (int i = 0; i < 3; ++i) CHECK(s.next(1s) == 0ms);
  CHECK(s.next(1s) == s.policy.min_backoff);
}

PLAIN_TEST("beyond the limit the pauses double up to the longest") {
  scene s;
  s.policy.max_restarts = 1;
  s.policy.min_backoff = 100ms;
  s.policy.max_backoff = 1500ms;
  CHECK(s.next(0s) == 0ms);
  milliseconds now = 0s;
  for (const auto expected : {100ms, 200ms, 400ms, 800ms, 1500ms, 1500ms, 1500ms}) {
    const auto pause = s.next(now);
    CHECK(pause == expected);
    now += expected;
  }
}

PLAIN_TEST("when the window has passed restarts are made at once again, and the pauses begin anew") {
  scene s;
  s.policy.max_restarts = 2;
  s.policy.window = 60s;
  CHECK(s.next(0s) == 0ms);
  CHECK(s.next(30s) == 0ms);
  CHECK(s.next(30s) == 1s);
  CHECK(s.next(31s) == 2s);
  CHECK(s.next(120s) == 0ms);
  CHECK(s.next(120s) == 0ms);
  CHECK(s.next(120s) == 1s);
}

PLAIN_TEST("a restart leaves the window exactly when that is over") {
  scene s;
  s.policy.max_restarts = 1;
  s.policy.window = 10s;
  CHECK(s.next(0s) == 0ms);
  CHECK(s.next(9'999ms) == 1s);
  scene t;
  t.policy.max_restarts = 1;
  t.policy.window = 10s;
  CHECK(t.next(0s) == 0ms);
  CHECK(t.next(10s) == 0ms);
}

PLAIN_TEST("jitter takes off no more than its part, and never adds") {
  std::minstd_rand random(1);
  std::uniform_real_distribution<double> fraction(0, 1);
  for (const double jitter : {0.0, 0.2, 1.0}) {
    restart_policy policy;
    policy.max_restarts = 0;
    policy.jitter = jitter;
    policy.min_backoff = policy.max_backoff = 1s;
    history past;
    policy.note_ready(past);
    milliseconds least = 1s, most = 0s;
    for (int i = 0; i < 1000; ++i) {
      const auto pause = policy.next(past, at(0s), 0ms, fraction(random));
      REQUIRE(pause);
      least = std::min(least, *pause);
      most = std::max(most, *pause);
    }
    CHECK(most <= 1s);
    CHECK(least >= milliseconds(static_cast<long>(1000 * (1 - jitter))));
    if (jitter > 0) CHECK(most - least > milliseconds(static_cast<long>(500 * jitter)));
  }
}

PLAIN_TEST("a cluster in which no worker has ever been ready gives up where it would have to pause") {
  restart_policy policy;
  policy.max_restarts = 4;
  history past;
  for (int i = 0; i < 4; ++i) CHECK(policy.next(past, at(0s), std::nullopt, 0) == 0ms);
  CHECK(policy.next(past, at(0s), std::nullopt, 0) == std::nullopt);
}

PLAIN_TEST("boots that fail in a row make it give up, however slowly they come") {
  scene s;
  s.policy.max_failed_boots = 5;
  for (int i = 0; i < 4; ++i) CHECK(s.next(i * 1h, false) == 0ms);
  CHECK(s.next(4h, false) == std::nullopt);
}

PLAIN_TEST("a worker that gets ready sets the count of failed boots back") {
  scene s;
  s.policy.max_failed_boots = 3;
  for (int round = 0; round < 5; ++round) {
    CHECK(s.next(round * 1h, false).has_value());
    CHECK(s.next(round * 1h, false).has_value());
    s.policy.note_ready(s.past);
  }
  CHECK(s.next(5h, false).has_value());
  CHECK(s.next(5h, false).has_value());
  CHECK(s.next(5h, false) == std::nullopt);
}

PLAIN_TEST("a worker that was ready and ends is no failed boot") {
  scene s;
  s.policy.max_failed_boots = 2;
  CHECK(s.next(0h, false).has_value());
  for (int i = 1; i < 100; ++i) CHECK(s.next(i * 1h, true).has_value());
  scene none;
  none.policy.max_failed_boots = 0;
  CHECK(none.next(0h, true).has_value());
  CHECK(none.next(0h, false) == std::nullopt);
}

PLAIN_TEST("whatever happens when, no window has more restarts at once than the limit, and each worker is replaced") {
  std::mt19937 random(4711);
  for (int run = 0; run < 200; ++run) {
    CAPTURE(run);
    restart_policy policy;
    policy.max_restarts = random() % 6;
    policy.window = milliseconds(1 + random() % 5000);
    policy.min_backoff = milliseconds(1 + random() % 500);
    policy.max_backoff = policy.min_backoff * (1 + random() % 20);
    policy.max_failed_boots = 1'000'000;
    history past;
    policy.note_ready(past);
    std::deque<milliseconds> at_once;
    milliseconds now(0);
    for (int i = 0; i < 300; ++i) {
      now += milliseconds(random() % 3 == 0 ? random() % 2000 : random() % 20);
      const auto pause = policy.next(past, at(now), random() % 4 != 0 ? std::optional<milliseconds>(0) : std::nullopt,
                                     static_cast<double>(random() % 1000) / 1000);
      REQUIRE(pause);
      CHECK(*pause >= 0ms);
      CHECK(*pause <= policy.max_backoff);
      if (*pause > 0ms) {
        CHECK(*pause >= policy.min_backoff - policy.min_backoff / 5 - 1ms);
        continue;
      }
      if (policy.min_backoff < 2ms) continue;  // a pause of 1 ms less jitter is none
      at_once.push_back(now);
      while (now - at_once.front() >= policy.window) at_once.pop_front();
      CHECK(at_once.size() <= policy.max_restarts);
    }
    CHECK(past.restarts.size() <= policy.max_restarts);
  }
}

PLAIN_TEST(
    "a worker that has not served for the least uptime is another failed boot, and one that has sets them back") {
  scene s;
  s.policy.max_failed_boots = 3;
  s.policy.min_uptime = 10s;
  const auto next = [&s](std::optional<milliseconds> served) {
    s.policy.note_ready(s.past);
    return s.policy.next(s.past, at(0s), served, 0);
  };
  CHECK(next(9'999ms) == 0ms);
  CHECK(next(std::nullopt) == 0ms);
  CHECK(next(10s) == 0ms);
  CHECK(next(0ms) == 0ms);
  CHECK(next(0ms) == 0ms);
  CHECK(next(0ms) == std::nullopt);
}

PLAIN_TEST("a policy that never restarts gives up at once, and degrades") {
  const auto policy = restart_policy::never();
  CHECK(policy.on_give_up == give_up_action::degrade);
  restart_policy::history past;
  policy.note_ready(past);
  CHECK_FALSE(policy.next(past, restart_policy::clock::now(), std::chrono::hours(1), 0.5));
}

PLAIN_TEST("without any restart at once each one waits") {
  scene s;
  s.policy.max_restarts = 0;
  CHECK(s.next(0s) == 1s);
  CHECK(s.next(1h) == 2s);
}

}  // namespace
}  // namespace cohort::test::restart_policy_test
