// SPDX-License-Identifier: BSL-1.0
/// What a schedule is, and how its runs end: plain data, which main fills in and the primary reads.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <variant>

#include "../core/error.hpp"
#include "cron.hpp"

namespace cohort {

/// Where the runs of a schedule take place.
enum class schedule_place {
  all_workers,  ///< in each live worker
  one_worker,   ///< in one live worker, another one each time
  agent,        ///< in the agent
};

/// What becomes of a run that could not begin at its time: because of a machine that slept, a clock that was put
/// forward, a process that was not there (see schedule::last_run), or the run before it that has not ended.
enum class missed_runs {
  skip,      ///< it is reported, and left out
  run_once,  ///< one run begins as soon as it can, in place of all that were missed
};

/// A job by its name, and when and where it is to run. Setters return the object, so that they chain:
///
///     cohort::schedule report("report");
///     report.at(cohort::cron("30 3 * * MON-FRI")).on_one_worker().at_least_once();
///
/// Distinct objects: safe. Shared objects: unsafe, except through const.
class schedule {
 public:
  using time_point = std::chrono::system_clock::time_point;
  using duration = std::chrono::milliseconds;

  /// The longest interval, jitter and lateness: ten years.
  static constexpr duration longest = std::chrono::days(3650);

  /// The times of an expression, and the zone in which they are meant.
  struct timetable {
    cron times;
    time_zone zone;
  };

  /// Throws errc::invalid_option for an empty name.
  explicit schedule(std::string name);

  /// Runs each time that `interval` has passed, from the start on: not since the end of the run before. Throws
  /// errc::invalid_option unless it is from 1 ms to `longest`, and if there are other times already.
  schedule& every(duration interval);

  /// Runs at the times of an expression. Throws errc::invalid_option if there are other times already.
  schedule& at(cron times, time_zone zone = time_zone::local);

  /// Runs when schedules begin, too or only then. That run is never a missed one.
  schedule& at_start();

  schedule& on_all_workers() { return on(schedule_place::all_workers); }
  schedule& on_one_worker() { return on(schedule_place::one_worker); }  ///< default
  /// In the agent of that name, or in the first one.
  schedule& on_agent(std::string name = {});

  /// Lets a run begin while the one before still runs. Default: such a run is missed.
  schedule& allow_overlap();

  /// Default: missed_runs::skip.
  schedule& missed(missed_runs policy);

  /// How late a run may begin before it counts as missed. Default: 10 s. Throws errc::invalid_option if it is negative
  /// or over `longest`.
  schedule& lateness(duration limit);

  /// Lets each run begin later by a random time below `limit`, so that several machines do not begin together. To be
  /// shorter than the time from one run to the next, or runs fall into it and are left out. Default: none. Throws
  /// errc::invalid_option if it is negative or over `longest`.
  schedule& jitter(duration limit);

  /// Runs again, `retry_pause` later and in another worker if there is one, when the worker dies in the middle, or when
  /// none is there: until a run has come to its end, well or not, but `attempts` times at most, since it may be the job
  /// that kills them. Default, and with 1: it runs at most once. In all workers it runs at most once always.
  schedule& at_least_once(unsigned attempts = 5);

  static constexpr duration retry_pause{1'000};

  /// When it has run last, if the program keeps that from one start to the next: so that a run is missed that was due
  /// in between. Of no effect if it lies in the future.
  schedule& last_run(time_point when);

  const std::string& name() const noexcept { return name_; }
  const duration* interval() const noexcept { return std::get_if<duration>(&times_); }  ///< null if there is none
  const timetable* times() const noexcept { return std::get_if<timetable>(&times_); }   ///< null if there are none
  bool starts() const noexcept { return at_start_; }
  schedule_place place() const noexcept { return place_; }
  const std::string& agent() const noexcept { return agent_; }
  bool overlaps() const noexcept { return overlap_; }
  missed_runs missed() const noexcept { return missed_; }
  duration lateness() const noexcept { return lateness_; }
  duration jitter() const noexcept { return jitter_; }
  unsigned attempts() const noexcept { return place_ == schedule_place::all_workers ? 1 : attempts_; }
  std::optional<time_point> last_run() const noexcept { return last_run_; }

 private:
  schedule& on(schedule_place place);

  [[noreturn]] void refuse(const char* step, duration value) const;

  duration check(const char* step, duration value) const;

  void expect_first(const char* step) const;

  std::string name_;
  std::variant<std::monostate, duration, timetable> times_;
  bool at_start_ = false;
  schedule_place place_ = schedule_place::one_worker;
  std::string agent_;
  bool overlap_ = false;
  missed_runs missed_ = missed_runs::skip;
  duration lateness_{10'000};
  duration jitter_{0};
  unsigned attempts_ = 1;
  std::optional<time_point> last_run_;
};

/// How a run has ended, or that it was missed: one for each worker, and for each attempt.
struct schedule_result {
  schedule_result() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  std::string name;
  unsigned worker = 0;           ///< its slot; 0 for the agent, and where there was no worker
  schedule::time_point due;      ///< the time that it was for, without jitter
  schedule::time_point started;  ///< when it began, or was found to be missed
  std::chrono::microseconds duration{0};
  unsigned attempt = 1;
  bool ok = false;
  std::string what;  ///< why not ok
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "schedule.ipp"
#endif
