// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/event.hpp"
#include "../../core/queue.hpp"
#include "../../core/task_group.hpp"
#include "../distribution/listener_set.hpp"
#include "../events.hpp"
#include "../options.hpp"
#include "../stats.hpp"
#include "../upgrade/handover.hpp"
#include "agent_supervisor.hpp"
#include "message_router.hpp"
#include "primary_context.hpp"
#include "rolling_update.hpp"
#include "worker_dialect.hpp"
#include "worker_set.hpp"
#include "worker_supervisor.hpp"

namespace cohort {

/// What a cluster consists of, and the order in which the parts start and stop. `cluster` is the contract; this is what
/// it points to.
///
/// Distinct objects: safe. Shared objects: unsafe.
class primary {
 public:
  primary(const asio::any_io_executor& executor, cluster_options options);

  primary(const primary&) = delete;
  primary& operator=(const primary&) = delete;

  asio::awaitable<int> run(upgrade::predecessor* predecessor);
  void stop(const std::string& why);
  void kill(const std::string& why);
  void scale(unsigned workers);
  void reopen();
  asio::awaitable<upgrade_result> upgrade(std::vector<std::pair<std::string, std::string>> environment);
  cluster_stats stats() const;

 private:
  friend class cluster;

  /// Starts all agents and workers, and waits until the cluster is to stop.
  asio::awaitable<void> serve(upgrade::predecessor* predecessor);

  /// Waits until everything has ended. May be called again when it has thrown.
  asio::awaitable<void> end_all();

  /// Waits until all workers serve. Then says so to everybody, has the predecessor go, and begins with the schedules,
  /// which the predecessor's must not run beside.
  asio::awaitable<void> begin_together(upgrade::predecessor* predecessor);

  asio::awaitable<void> run_all_schedules();

  /// Tells all workers and agents.
  template <class M>
  void tell_all(const M& message) {
    for (const auto* all : {&workers_, &agents_}) {
      for (const auto& each : *all) each->tell(message);
    }
  }

  /// Says to everybody that the cluster is not to be counted on any more, and goes on.
  void leave(const std::string& why);

  /// Begins the drain.
  void end_serving();
  asio::awaitable<void> be_lame_duck();

  void emit(cluster_event event);
  void give_up(const std::string& why, const std::exception_ptr& failure);
  void replace_slow(worker_process& who);
  void tell_of_agent(const std::string& name, bool is_there);
  asio::awaitable<void> send_to_workers(std::uint64_t type, std::string body);
  std::vector<schedule> schedules() const;
  void check_agents() const;
  void check_processes() const;

  // One for each part of the house that the README's picture shows, in the order in which they build on each other.
  primary_context context_;
  queue<cluster_event> events_;
  event all_ready_;
  worker_set workers_;
  worker_set agents_;
  message_router router_;
  listener_set listeners_;
  std::shared_ptr<worker_dialect> dialect_;  // null if the workers speak worker_protocol themselves
  worker_supervisor worker_supervisor_;
  rolling_update updates_;
  agent_supervisor agent_supervisor_;
  handover handover_;
  task_group tasks_;
  worker_process::clock::time_point begun_{};
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "primary.ipp"
#endif
