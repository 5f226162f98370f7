// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>

#include "../ipc/channel_options.hpp"
#include "../process/command.hpp"

namespace cohort {

/// What a process_pool is to be.
///
/// A time that is longer than a timer can count is as good as none. Distinct objects: safe. Shared objects: unsafe.
struct pool_options {
  pool_options() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  /// How many processes at most, and so how many jobs run at a time. Default: 0, which is one for each processor.
  unsigned processes = 0;
  /// How many jobs may wait for a process before is_full() returns true. map() and as_completed() take no more jobs
  /// from their range than can run and wait.
  std::size_t queue = 64;
  /// How long a job may take before it is killed. The time begins when a process gets the job, and includes the start
  /// of a new process. Default: no limit.
  std::optional<std::chrono::milliseconds> deadline;
  /// How often a job is tried again after its process has crashed. A job that throws or passes its deadline is not
  /// tried again.
  unsigned retries = 0;
  /// A process ends after so many jobs. Default: no limit.
  std::optional<std::size_t> max_jobs;
  /// A process ends that has more than so many bytes resident (proc(5), statm) after a job. Default: no limit.
  std::optional<std::size_t> max_rss;
  /// How long a process may take until it can take a job, before it is killed.
  std::chrono::milliseconds start_timeout{30'000};
  /// The program that the processes run, which must call pool::worker_main() or pool::serve_if_worker(). Default: the
  /// program of this process, with its own arguments. Its standard input is /dev/null unless the command sets it.
  ///
  /// The process dies with its parent (see command::die_with_parent: with the thread that has started it). With that
  /// turned off, the process ends when it has finished its job.
  std::optional<command> program;
  /// For the channels to the processes. `max_message` of the other end is set in the program: see pool::worker_main().
  channel_options channel;

  /// `processes`, or the number of processors for 0.
  unsigned process_count() const noexcept;
};

namespace detail {

/// These options with times that timers can count.
pool_options normalized(pool_options options);

}  // namespace detail
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "options.ipp"
#endif
