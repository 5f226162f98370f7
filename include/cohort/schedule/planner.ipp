// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "planner.hpp"

#include "../core/config.hpp"

#include <algorithm>
#include <chrono>
#include <set>
#include <string>

#include <fmt/format.h>

namespace cohort {

COHORT_INLINE schedule_planner::schedule_planner(std::vector<schedule> schedules, time_point start, unsigned seed)
    : random_(seed), seen_(start) {
  std::set<std::string> names;
  for (auto& each : schedules) {
    const auto expect = [&each](bool good, const char* what) {
      if (!good) throw_error(fmt::format("schedule \"{}\": {}", each.name(), what), errc::invalid_option);
    };
    expect(names.insert(each.name()).second, "the name is used twice");
    expect(each.interval() || each.times() || each.starts(), "it has no times");
    expect(!each.interval() || each.jitter() < *each.interval(), "a jitter not below the interval");
    registrations_.push_back(begin(std::move(each), start));
  }
}

COHORT_INLINE std::vector<schedule_run> schedule_planner::look(time_point now) {
  follow(now);
  std::vector<schedule_run> runs;
  for (std::size_t which = 0; which < registrations_.size(); ++which) {
    registration& each = registrations_[which];
    for (auto at = each.retries.begin(); at != each.retries.end();) {
      if (at->first > now) {
        ++at;
        continue;
      }
      runs.push_back(at->second);
      at = each.retries.erase(at);
    }
    if (each.next && *each.next + each.delay <= now) {
      if (auto run = decide(each, which, now)) runs.push_back(*run);
      plan(each, now);
    }
    if (each.owed && each.running == 0) {
      schedule_run run;
      run.which = which;
      run.due = *std::exchange(each.owed, std::nullopt);
      ++each.running;
      runs.push_back(run);
    }
  }
  return runs;
}

COHORT_INLINE std::optional<schedule_planner::time_point> schedule_planner::next() const {
  std::optional<time_point> first;
  const auto consider = [&first](time_point time) { first = first ? std::min(*first, time) : time; };
  for (const registration& each : registrations_) {
    if (each.next) consider(*each.next + each.delay);
    if (each.owed && each.running == 0) consider(seen_);
    for (const auto& retry : each.retries) consider(retry.first);
  }
  return first;
}

COHORT_INLINE bool schedule_planner::ended(const schedule_run& run, time_point now, bool lost) {
  registration& each = registrations_.at(run.which);
  if (lost && run.attempt < each.what.attempts()) {
    each.retries.emplace_back(now + schedule::retry_pause, run);
    ++each.retries.back().second.attempt;
    return true;
  }
  --each.running;
  return false;
}

COHORT_INLINE schedule_planner::registration schedule_planner::begin(schedule what, time_point start) {
  registration made(std::move(what));
  const auto since = std::min(made.what.last_run().value_or(start), start);
  made.base = since;
  plan(made, since);
  if (made.what.starts()) made.first = true, made.next = start;
  return made;
}

COHORT_INLINE void schedule_planner::plan(registration& each, time_point after) {
  each.first = false;
  each.next = next_after(each, after);
  const std::chrono::duration<double, duration::period> limit(each.what.jitter());
  each.delay = std::chrono::duration_cast<duration>(limit * std::uniform_real_distribution<double>(0, 1)(random_));
}

COHORT_INLINE std::optional<schedule_planner::time_point> schedule_planner::next_after(const registration& each,
                                                                                       time_point time) {
  if (const auto* interval = each.what.interval()) return each.base + ((time - each.base) / *interval + 1) * *interval;
  if (const auto* table = each.what.times()) return table->times.next_after(time, table->zone);
  return std::nullopt;
}

COHORT_INLINE std::optional<schedule_run> schedule_planner::decide(registration& each, std::size_t which,
                                                                   time_point now) {
  schedule_run run;
  run.which = which;
  run.due = *each.next;
  const bool catches_up = each.what.missed() == missed_runs::run_once;
  if (const auto earliest = now - each.what.lateness() - each.delay; run.due < earliest && !each.first) {
    const auto in_time = next_after(each, earliest);
    if (in_time && *in_time <= now) {
      run.due = *in_time;
    } else if (!catches_up) {
      run.what = schedule_run::kind::late;
      return run;
    }
  }
  if (each.running > 0 && !each.what.overlaps()) {
    if (catches_up) {
      each.owed = run.due;
      return std::nullopt;
    }
    run.what = schedule_run::kind::overlapping;
    return run;
  }
  ++each.running;
  each.owed.reset();
  return run;
}

COHORT_INLINE void schedule_planner::follow(time_point now) {
  const auto back = seen_ - now;
  seen_ = now;
  if (back <= duration(0)) return;
  for (registration& each : registrations_) {
    for (auto& retry : each.retries) retry.first -= back;
    if (each.what.interval() || each.first) {
      each.base -= back;
      if (each.next) *each.next -= back;
    } else if (each.next && back > std::chrono::hours(3)) {
      plan(each, now);
    }
  }
}

}  // namespace cohort
