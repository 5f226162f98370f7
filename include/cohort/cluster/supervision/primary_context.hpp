// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <string>
#include <utility>

#include "../../core/asio.hpp"
#include "../../core/event.hpp"
#include "../events.hpp"
#include "../options.hpp"
#include "counter_totals.hpp"
#include "worker_process.hpp"

namespace cohort {

/// An event about a process: its slot or its agent's name, and its pid.
cluster_event event_about(const worker_process& who, cluster_event::kind what, std::string text = {});

/// What the parts of a primary share: its options, whether it stops, and whom to tell. The cluster owns it, and it
/// outlives the parts. All of it runs on one executor.
struct primary_context {
  primary_context(const asio::any_io_executor& executor, cluster_options what)
      : options(std::move(what)), stop(executor), changed(executor) {}

  asio::any_io_executor get_executor() { return stop.get_executor(); }

  /// How long a process that is to drain may take until it is killed.
  std::chrono::milliseconds drain_limit(std::chrono::milliseconds of_its_own) const { return of_its_own + kill_after; }

  /// The program, as the user that the options name.
  command as_user(command program) const;

  /// Takes a process to its next state.
  void enter(worker_process& who, worker_state next);

  /// Something is wrong with a process, which is an event.
  void fail(worker_process& who, const std::string& why);

  // What a process gets beyond its own deadline to end by itself before it is killed.
  static constexpr std::chrono::milliseconds kill_after{5'000};

  const cluster_options options;
  event stop;              ///< set when the cluster stops, for good
  event changed;           ///< notified when the state of a process is another one
  bool leaving = false;    ///< it was told to stop; `stop` follows after cluster_options::lame_duck
  bool killed = false;     ///< the cluster stops at once
  bool all_ready = false;  ///< all agents and workers have been ready at the same time
  bool gave_up = false;
  worker_dialect* dialect = nullptr;  ///< of the workers, if they have one
  counter_totals counters;            ///< of the application
  std::function<void(cluster_event)> emit;
  /// Stops the cluster because it cannot go on. `failure`: what was thrown, if anything.
  std::function<void(std::string why, std::exception_ptr failure)> give_up;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "primary_context.ipp"
#endif
