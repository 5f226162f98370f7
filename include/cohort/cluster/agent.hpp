// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "../core/asio.hpp"
#include "../process/command.hpp"
#include "../worker/worker_function.hpp"

namespace cohort {

/// A process of a cluster for what is to be done once, however many workers there are: it holds the connection to a
/// source, turns the logs over, counts. It is a `worker` that gets no connections, and talks to the others by a
/// `messenger`.
///
/// Agents are started before the workers, which wait until all of them are ready, and stopped after them. One that ends
/// before it is ready keeps the cluster from starting. Later it is started again as the restart policy says, while the
/// workers go on; they hear agent_gone and agent_back. There are never two of one name at a time, but for an upgrade of
/// the primary, whose successor has its own until it takes over. A reload does not touch agents.
struct agent_options {
  explicit agent_options(std::string name_, worker_function run_ = nullptr)
      : name(std::move(name_)), run(std::move(run_)) {}

  /// Not empty, and no other agent's.
  std::string name;
  /// Runs from when it is ready until it is to stop, when this is cancelled. Need not go on so long: the process lives
  /// on, and hears messages.
  worker_function run;
  /// Runs before it is ready. What it throws ends the process, and counts as a failed boot.
  worker_function set_up;
  /// Runs after `run` has ended, within the drain timeout.
  worker_function tear_down;
  /// Lets it live on after an exception of `run` or a job, which is an event (cluster_event::kind::failed). If not, the
  /// process exits with status 1 and is started again.
  bool survives_exceptions = true;
  /// After how long `run` begins again when it has thrown, in a process that survives that. Default: never; the agent
  /// is idle then, hears messages and runs jobs. The event says which.
  std::optional<std::chrono::milliseconds> run_again_after;
  /// How long it may take to stop.
  std::chrono::milliseconds drain_timeout{30'000};
  /// The program that it is, which must call run_agent(); the one of the cluster, if not set.
  std::optional<cohort::command> command;
};

}  // namespace cohort
