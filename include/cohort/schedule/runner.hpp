// SPDX-License-Identifier: BSL-1.0
/// Runs schedules at their times.
///
/// Whoever calls run_schedules() owns the clock, the host and the planner, and all of it runs on the caller's executor.
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <exception>
#include <memory>
#include <system_error>
#include <vector>

#include "../core/asio.hpp"
#include "../core/asio_error.hpp"
#include "../core/error.hpp"
#include "../core/event.hpp"
#include "../core/task_group.hpp"
#include "../core/text_of.hpp"
#include "planner.hpp"
#include "schedule.hpp"

namespace cohort {

/// The time that schedules go by. `sleep_until` may return early, and is asked again then; cancelling ends it with
/// operation_aborted.
template <class T>
concept schedule_clock = requires(T& clock, schedule::time_point time) {
  { clock.now() } -> std::convertible_to<schedule::time_point>;
  { clock.sleep_until(time) } -> std::same_as<asio::awaitable<void>>;
};

/// Where schedules are run.
template <class T>
concept schedule_host = requires(T& host, const schedule& what, unsigned worker, const schedule_result& result) {
  /// The slots, from 1 on, of the workers that can take a run now.
  { host.workers() } -> std::convertible_to<std::vector<unsigned>>;
  /// Runs it in a worker, or in the agent, which is 0, to its end. Throws if it has not ended well: errc::peer_closed
  /// if the process has died in the middle, or was gone already. Cancelling ends it.
  { host.perform(what, worker) } -> std::same_as<asio::awaitable<void>>;
  /// Hears of each run that has ended, or was missed.
  host.ended(result);
};

/// The clock of the system.
///
/// Distinct objects: safe. Shared objects: safe.
class wall_clock {
 public:
  schedule::time_point now() const { return schedule::time_point::clock::now(); }

  /// Returns after a minute at most: so soon it is seen that the clock was set.
  asio::awaitable<void> sleep_until(schedule::time_point time) const;
};

namespace detail {

template <schedule_clock Clock, schedule_host Host>
class schedule_runner {
 public:
  schedule_runner(const asio::any_io_executor& executor, schedule_planner& planner, Clock& clock, Host& host,
                  event& stop)
      : planner_(planner),
        clock_(clock),
        host_(host),
        stop_(stop),
        last_worker_(planner.size()),
        changed_(executor),
        runs_(executor),
        sleeps_(executor),
        watches_(executor) {}

  asio::awaitable<void> run() {
    watches_.start(stop_.wait(), [this](std::exception_ptr) { changed_.set(); });
    while (!stop_.is_set()) {
      for (const auto& each : planner_.look(clock_.now())) begin(each);
      if (const auto next = planner_.next()) {
        sleeps_.start(clock_.sleep_until(*next), [this](std::exception_ptr thrown) { note(thrown, true); });
      }
      co_await changed_.wait();
      co_await sleeps_.cancel_and_wait();
      changed_.reset();  // last, since the sleep that has ended just now has set it too
      if (failure_) std::rethrow_exception(failure_);
    }
    while (runs_.size() > 0 && !failure_) {
      co_await changed_.wait();
      changed_.reset();
    }
    if (failure_) std::rethrow_exception(failure_);
  }

  /// Ends what still runs, all of which uses this object.
  asio::awaitable<void> finish() {
    co_await watches_.cancel_and_wait();
    co_await sleeps_.cancel_and_wait();
    co_await runs_.cancel_and_wait();
  }

 private:
  /// A run in all the workers that have part in it.
  struct progress {
    std::size_t left;
    bool lost = false;
  };

  static schedule_result result_of(const schedule& what, const schedule_run& run, unsigned worker) {
    schedule_result result;
    result.name = what.name();
    result.worker = worker;
    result.due = run.due;
    result.attempt = run.attempt;
    return result;
  }

  void begin(const schedule_run& run) {
    if (run.what == schedule_run::kind::late) return report_missed(run, "missed: its time has passed");
    if (run.what == schedule_run::kind::overlapping) return report_missed(run, "missed: the run before has not ended");
    const auto workers = choose(run.which);
    if (workers.empty()) {
      report_missed(run, "there is no worker");
      planner_.ended(run, clock_.now(), true);
      return;
    }
    const auto shared = std::make_shared<progress>();
    shared->left = workers.size();
    for (const unsigned worker : workers) {
      runs_.start(perform(run, worker, shared), [this, run, shared](std::exception_ptr thrown) {
        if (--shared->left == 0) planner_.ended(run, clock_.now(), shared->lost);
        note(thrown, false);
      });
    }
  }

  std::vector<unsigned> choose(std::size_t which) {
    const auto place = planner_.at(which).place();
    if (place == schedule_place::agent) return {0};
    std::vector<unsigned> workers = host_.workers();
    if (place == schedule_place::all_workers || workers.empty()) return workers;
    std::sort(workers.begin(), workers.end());
    const auto next = std::upper_bound(workers.begin(), workers.end(), last_worker_[which]);
    last_worker_[which] = next == workers.end() ? workers.front() : *next;
    return {last_worker_[which]};
  }

  asio::awaitable<void> perform(schedule_run run, unsigned worker, std::shared_ptr<progress> shared) {
    const schedule& what = planner_.at(run.which);
    auto result = result_of(what, run, worker);
    result.started = clock_.now();
    try {
      co_await host_.perform(what, worker);
      result.ok = true;
    } catch (...) {
      result.what = text_of(std::current_exception());
      const auto error = detail::system_error_in(std::current_exception());
      if (error && error->code() == errc::peer_closed) shared->lost = true;
    }
    const auto duration = std::chrono::duration_cast<std::chrono::microseconds>(clock_.now() - result.started);
    result.duration = std::max(duration, std::chrono::microseconds(0));  // the clock may have been set back
    host_.ended(result);
  }

  void report_missed(const schedule_run& run, const char* why) {
    auto result = result_of(planner_.at(run.which), run, 0);
    result.started = clock_.now();
    result.what = why;
    host_.ended(result);
  }

  void note(std::exception_ptr thrown, bool of_sleep) {
    changed_.set();
    if (!thrown || failure_) return;
    const auto error = detail::system_error_in(thrown);
    if (of_sleep && error && error->code() == operation_aborted()) return;
    failure_ = thrown;
  }

  schedule_planner& planner_;
  Clock& clock_;
  Host& host_;
  event& stop_;
  std::vector<unsigned> last_worker_;  // of each schedule
  event changed_;
  std::exception_ptr failure_;
  task_group runs_, sleeps_, watches_;
};

}  // namespace detail

/// Runs schedules, each run beside the others, until `stop` is set, and then returns when those under way have ended:
/// none begins any more, nor is tried again.
///
/// A run that fails, or dies with its worker, is a result for `host.ended()` and nothing more. What `host.workers()`,
/// `host.ended()` and the clock throw ends all runs and is thrown; the planner is of no more use then. Cancelling, also
/// after the stop, cancels the runs under way, waits until they have ended, whose results are reported, and throws
/// operation_aborted.
///
/// All that is passed must outlive the call, and be of this executor.
template <schedule_clock Clock, schedule_host Host>
asio::awaitable<void> run_schedules(schedule_planner& planner, Clock& clock, Host& host, event& stop) {
  const auto executor = co_await asio::this_coro::executor;
  detail::schedule_runner<Clock, Host> runner(executor, planner, clock, host, stop);
  std::exception_ptr failure;
  try {
    co_await runner.run();
  } catch (...) {
    failure = std::current_exception();
  }
  co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
  co_await runner.finish();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "runner.ipp"
#endif
