// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <thread>
#include <utility>

#include "../ipc/transport/link.hpp"
#include "../process/command.hpp"

namespace cohort {

/// What a process_pool is to be. Setters return the object, so that they chain.
///
/// Distinct objects: safe. Shared objects: unsafe.
class pool_options {
 public:
  pool_options() = default;

  /// How many processes at most, and so how many jobs at a time; 0, as at first: one for each processor.
  pool_options& processes(unsigned count) {
    processes_ = count;
    return *this;
  }

  /// How many jobs may wait for a process before is_full() says so; map() and as_completed() take no more from their
  /// range than can run and wait. 64 at first.
  pool_options& queue(std::size_t jobs) {
    queue_ = jobs;
    return *this;
  }

  /// How long a job may take, from when it is given to a process (whose start counts, if it is a new one); then it is
  /// killed. None at first.
  pool_options& deadline(std::chrono::milliseconds limit) {
    deadline_ = std::min(limit, longest);
    return *this;
  }

  /// How often a job is tried again when its process crashes. One that throws or passes its deadline is not. 0 at
  /// first.
  pool_options& retries(unsigned count) {
    retries_ = count;
    return *this;
  }

  /// Lets a process end after so many jobs. No limit at first.
  pool_options& max_jobs(std::size_t jobs) {
    max_jobs_ = jobs;
    return *this;
  }

  /// Lets a process end that has more than `bytes` resident (proc(5), statm) after a job. No limit at first.
  pool_options& max_rss(std::size_t bytes) {
    max_rss_ = bytes;
    return *this;
  }

  /// How long a process may take until it can take a job, before it is killed. 30 s at first.
  pool_options& start_timeout(std::chrono::milliseconds limit) {
    start_timeout_ = std::min(limit, longest);
    return *this;
  }

  /// The program that the processes run, which must call pool::worker_main() or pool::serve_if_worker(); at first the
  /// one that runs, with its own arguments. Its standard input is /dev/null unless the command sets it.
  ///
  /// It dies with the parent (see command::die_with_parent: with the thread that has started it). With that turned off,
  /// it ends when it has finished its job.
  pool_options& program(command what) {
    program_ = std::move(what);
    return *this;
  }

  /// For the channels to the processes. The other side of `max_message` is set in the program, see pool::worker_main().
  pool_options& channel(const channel_options& options) {
    channel_ = options;
    return *this;
  }

  unsigned processes() const noexcept {
    if (processes_ != 0) return processes_;
    const unsigned processors = std::thread::hardware_concurrency();
    return processors != 0 ? processors : 1;
  }
  std::size_t queue() const noexcept { return queue_; }
  std::optional<std::chrono::milliseconds> deadline() const noexcept { return deadline_; }
  unsigned retries() const noexcept { return retries_; }
  std::optional<std::size_t> max_jobs() const noexcept { return max_jobs_; }
  std::optional<std::size_t> max_rss() const noexcept { return max_rss_; }
  std::chrono::milliseconds start_timeout() const noexcept { return start_timeout_; }
  const std::optional<command>& program() const noexcept { return program_; }
  const channel_options& channel() const noexcept { return channel_; }

 private:
  // As good as for ever, and no overflow when a timer counts it in nanoseconds.
  static constexpr std::chrono::milliseconds longest = std::chrono::hours(24 * 365);

  unsigned processes_ = 0;
  std::size_t queue_ = 64;
  std::optional<std::chrono::milliseconds> deadline_;
  unsigned retries_ = 0;
  std::optional<std::size_t> max_jobs_;
  std::optional<std::size_t> max_rss_;
  std::chrono::milliseconds start_timeout_{30'000};
  std::optional<command> program_;
  channel_options channel_;
};

}  // namespace cohort
