// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "../core/error.hpp"
#include "schedule.hpp"

namespace cohort {

/// What a planner has decided about one run.
struct schedule_run {
  enum class kind {
    begin,        ///< it begins now
    late,         ///< missed: its time has passed
    overlapping,  ///< missed: the one before it has not ended
  };

  std::size_t which = 0;     ///< the schedule, by its place in the list
  schedule::time_point due;  ///< the time that it is for, without jitter
  kind what = kind::begin;
  unsigned attempt = 1;
};

/// Decides which schedules are to run when. It asks no clock, starts nothing and waits for nothing: whoever runs them
/// asks it at the times that it names, and tells it what has ended.
///
/// The time may be put forward, which makes runs late, and back: times of a timetable that come a second time are not
/// run again, unless it went back by more than three hours, which sets the clock right rather than adjusts it (as
/// cron(8) sees it); intervals and pauses go back with the clock.
///
/// Distinct objects: safe. Shared objects: unsafe.
class schedule_planner {
 public:
  using time_point = schedule::time_point;

  /// Throws errc::invalid_option for two schedules of one name, for one that has no times, and for a jitter that is not
  /// below the interval. `seed` is for the jitter.
  schedule_planner(std::vector<schedule> schedules, time_point start, unsigned seed = std::random_device{}())
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

  std::size_t size() const noexcept { return registrations_.size(); }
  const schedule& at(std::size_t which) const { return registrations_.at(which).what; }

  /// Runs of a schedule that have begun and not ended, together with those that wait to be tried again.
  std::size_t running(std::size_t which) const { return registrations_.at(which).running; }

  /// What is due by now, and what was missed, which is told once. Each that is to begin counts as running from here on,
  /// until ended().
  std::vector<schedule_run> look(time_point now) {
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

  /// When to look again; none if nothing is to come before a run ends. May lie in the past.
  std::optional<time_point> next() const {
    std::optional<time_point> first;
    const auto consider = [&first](time_point time) { first = first ? std::min(*first, time) : time; };
    for (const registration& each : registrations_) {
      if (each.next) consider(*each.next + each.delay);
      if (each.owed && each.running == 0) consider(seen_);
      for (const auto& retry : each.retries) consider(retry.first);
    }
    return first;
  }

  /// Takes note that a run has ended: by itself, or because it has lost its worker, or found none. True if it will be
  /// tried again; it goes on to count as running.
  bool ended(const schedule_run& run, time_point now, bool lost = false) {
    registration& each = registrations_.at(run.which);
    if (lost && run.attempt < each.what.attempts()) {
      each.retries.emplace_back(now + schedule::retry_pause, run);
      ++each.retries.back().second.attempt;
      return true;
    }
    --each.running;
    return false;
  }

 private:
  using duration = time_point::duration;

  struct registration {
    explicit registration(schedule schedule_) : what(std::move(schedule_)) {}

    schedule what;
    time_point base;                 // intervals count from here
    std::optional<time_point> next;  // without the delay
    duration delay{0};
    bool first = false;  // `next` is the start
    std::size_t running = 0;
    std::optional<time_point> owed;  // a missed run that begins when none runs
    std::vector<std::pair<time_point, schedule_run>> retries;
  };

  registration begin(schedule what, time_point start) {
    registration made(std::move(what));
    const auto since = std::min(made.what.last_run().value_or(start), start);
    made.base = since;
    plan(made, since);
    if (made.what.starts()) made.first = true, made.next = start;
    return made;
  }

  void plan(registration& each, time_point after) {
    each.first = false;
    each.next = next_after(each, after);
    const std::chrono::duration<double, duration::period> limit(each.what.jitter());
    each.delay = std::chrono::duration_cast<duration>(limit * std::uniform_real_distribution<double>(0, 1)(random_));
  }

  static std::optional<time_point> next_after(const registration& each, time_point time) {
    if (const auto* interval = each.what.interval())
      return each.base + ((time - each.base) / *interval + 1) * *interval;
    if (const auto* table = each.what.times()) return table->times.next_after(time, table->zone);
    return std::nullopt;
  }

  /// About the time that has come, and all that have passed with it. None if it is put off.
  std::optional<schedule_run> decide(registration& each, std::size_t which, time_point now) {
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

  void follow(time_point now) {
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

  std::vector<registration> registrations_;
  std::minstd_rand random_;
  time_point seen_;
};

}  // namespace cohort
