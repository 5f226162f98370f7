// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "../events.hpp"
#include "../exit_reason.hpp"
#include "../restart_policy.hpp"
#include "primary_context.hpp"
#include "worker_process.hpp"

namespace cohort {

/// The life of those that follow one another in a place: what is said when one is ready and when it has ended, and how
/// long the place waits for the next one. Workers share one history of restarts; each agent has its own.
///
/// Distinct objects: safe. Shared objects: unsafe.
class restarting {
 public:
  explicit restarting(primary_context& context) : context_(context) {}

  /// A process has said that it is ready.
  void on_ready(worker_process& who);

  /// A process is reaped: emits that it has exited, and leaves it dead.
  exit_reason on_exit(worker_process& who, const worker_ending& how);

  /// How long to wait before the next one is started; none if the restart policy has given up. A pause is an event.
  std::optional<std::chrono::milliseconds> next_pause(const worker_process& who);

  /// Why there is none.
  std::string why_none(const worker_process& who) const;

 private:
  primary_context& context_;
  restart_policy::history history_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "restarting.ipp"
#endif
