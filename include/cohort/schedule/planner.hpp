// SPDX-License-Identifier: BSL-1.0
/// Decides which schedules are to run when.
///
/// Whoever runs the schedules owns the planner, which uses no executor.
#pragma once

#include <cstddef>
#include <optional>
#include <random>
#include <utility>
#include <vector>

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

/// The times of schedules, and which of their runs have begun. It asks no clock, starts nothing and waits for
/// nothing: whoever runs them asks it at the times that it names, and tells it what has ended.
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
  schedule_planner(std::vector<schedule> schedules, time_point start, unsigned seed = std::random_device{}());

  std::size_t size() const noexcept { return registrations_.size(); }
  const schedule& at(std::size_t which) const { return registrations_.at(which).what; }

  /// Runs of a schedule that have begun and not ended, together with those that wait to be tried again.
  std::size_t running(std::size_t which) const { return registrations_.at(which).running; }

  /// What is due by now, and what was missed, which is told once. Each that is to begin counts as running from here on,
  /// until ended().
  std::vector<schedule_run> look(time_point now);

  /// When to look again; none if nothing is to come before a run ends. May lie in the past.
  std::optional<time_point> next() const;

  /// Takes note that a run has ended: by itself, or because it has lost its worker, or found none. True if it will be
  /// tried again; it goes on to count as running.
  bool ended(const schedule_run& run, time_point now, bool lost = false);

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

  registration begin(schedule what, time_point start);

  void plan(registration& each, time_point after);

  static std::optional<time_point> next_after(const registration& each, time_point time);

  /// About the time that has come, and all that have passed with it. None if it is put off.
  std::optional<schedule_run> decide(registration& each, std::size_t which, time_point now);

  void follow(time_point now);

  std::vector<registration> registrations_;
  std::minstd_rand random_;
  time_point seen_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "planner.ipp"
#endif
