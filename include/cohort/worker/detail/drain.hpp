// SPDX-License-Identifier: BSL-1.0
/// A worker's way out: why it began, how long idle connections have, and when the busy ones are cancelled.
///
/// The worker owns it. It runs on the worker's executor.
#pragma once

#include <functional>

#include "../../core/asio.hpp"
#include "../../core/event.hpp"
#include "../../core/task_group.hpp"
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
      : options_(options), idle_(idle), begun_(executor), hurry_(executor) {}

  asio::any_io_executor get_executor() { return begun_.get_executor(); }

  bool begun() const noexcept { return begun_.is_set(); }
  asio::awaitable<void> wait_begun() { return begun_.wait(); }

  /// Takes note of a reason, of which the one of the highest rank decides on the status. True if the drain begins with
  /// it.
  bool begin(worker_exit why);

  /// The status that the process exits with.
  worker_exit status() const noexcept { return status_; }

  /// Nothing is left to wait for, or somebody wants no more waiting: finish() waits no longer.
  void hurry() { hurry_.set(); }

  /// Runs beside the worker: closes idle connections when their time is up, after the drain has begun.
  asio::awaitable<void> close_idle();

  /// Waits until nothing is left to do, which `is_idle()` says, or the time is up, and cancels the connections then.
  asio::awaitable<void> finish(task_group& connections, std::function<bool()> is_idle);

 private:
  static int rank(worker_exit status) noexcept;

  const worker_options& options_;
  idle_connections& idle_;
  event begun_;
  event hurry_;
  worker_exit status_ = worker_exit::asked;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "drain.ipp"
#endif
