// SPDX-License-Identifier: BSL-1.0
/// A worker's way out: why it began, when each connection is asked to go, and when the busy ones are cancelled.
///
/// The worker owns it. It runs on the worker's executor.
#pragma once

#include <functional>

#include "../../core/asio.hpp"
#include "../../core/event.hpp"
#include "../../core/task_group.hpp"
#include "../../core/wait_queue.hpp"
#include "../exit_codes.hpp"
#include "../options.hpp"

namespace cohort::detail {

class idle_connections;

/// Cancels a group and waits a second for it: for what does not end for being cancelled, and ends with the process.
asio::awaitable<void> give_a_second(task_group& tasks);

/// Distinct objects: safe. Shared objects: unsafe. `options` and `idle` must outlive it.
class drain_sequence {
 public:
  drain_sequence(const asio::any_io_executor& executor, const worker_options& options, idle_connections& idle)
      : options_(options), idle_(idle), begun_(executor), hurry_(executor), turns_(executor, 0) {}

  asio::any_io_executor get_executor() { return begun_.get_executor(); }

  bool begun() const noexcept { return begun_.is_set(); }
  asio::awaitable<void> wait_begun() { return begun_.wait(); }

  /// Waits until it is the turn of whoever waits here to go. Cancelling throws operation_aborted.
  asio::awaitable<void> wait_turn();

  /// Takes note of a reason, of which the one of the highest rank decides on the status. True if the drain begins with
  /// it.
  bool begin(worker_exit why);

  /// The status that the process exits with.
  worker_exit status() const noexcept { return status_; }

  /// Nothing is left to wait for, or somebody wants no more waiting: finish() waits no longer.
  void hurry() { hurry_.set(); }

  /// Runs beside the worker: closes idle connections when their time is up, after the drain has begun.
  asio::awaitable<void> close_idle();

  /// Runs beside the worker: ends the waits of wait_turn(), after the drain has begun.
  asio::awaitable<void> ask_to_go();

  /// Waits until nothing is left to do, which `is_idle()` says, or the time is up, and cancels the connections then.
  asio::awaitable<void> finish(task_group& connections, std::function<bool()> is_idle);

 private:
  /// Calls `tell(part)` step by step, with the part, 0 to 1, of those who are left that are to be told now.
  asio::awaitable<void> spread(std::function<void(double part)> tell);

  /// Ends all waits of wait_turn(), and from now on nobody waits.
  void ask_all_to_go();

  static int rank(worker_exit status) noexcept;

  const worker_options& options_;
  idle_connections& idle_;
  event begun_;
  event hurry_;
  wait_queue turns_;  // of permits that nobody ever gets: a refusal is the word to go
  bool all_told_ = false;
  worker_exit status_ = worker_exit::asked;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "drain.ipp"
#endif
