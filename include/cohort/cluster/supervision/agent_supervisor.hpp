// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/task_group.hpp"
#include "../agent.hpp"
#include "../stats.hpp"
#include "message_router.hpp"
#include "primary_context.hpp"
#include "process_watch.hpp"
#include "restarting.hpp"
#include "worker_set.hpp"

namespace cohort {

/// What an agent_supervisor asks of its cluster.
struct agent_hooks {
  /// The program of an agent that is no program of its own.
  std::function<command()> own_program;
  /// An agent that was ready has ended, or another one is ready in its place.
  std::function<void(const std::string& name, bool is_there)> changed;
};

/// The agents of a cluster: starts each, and starts it again when it has ended. The cluster owns it.
///
/// Distinct objects: safe. Shared objects: unsafe. Must outlive stop().
class agent_supervisor final : private process_events {
 public:
  agent_supervisor(primary_context& context, worker_set& agents, message_router& router, agent_hooks hooks);

  agent_supervisor(const agent_supervisor&) = delete;
  agent_supervisor& operator=(const agent_supervisor&) = delete;

  /// Starts all of them, and returns when all are ready; or with what is wrong with one, or when the cluster stops.
  asio::awaitable<std::string> start();

  /// From here on no agent is started; the cluster stops.
  void begin_stop();

  /// Has them stop, and waits until they have.
  asio::awaitable<void> stop();

  void kill();

  std::vector<agent_stats> stats() const;

 private:
  struct place {
    restarting life;
    std::uint64_t restarts = 0;
    bool was_ready = false;  // one of those that were here
  };

  void on_ready(const worker_ptr& who) override;
  void on_draining(const worker_ptr& who, const worker_protocol::draining& word) override;
  void on_figures(const worker_ptr&) override {}
  void on_end(const worker_ptr&) override {}

  /// One agent's life, and that of those that follow in its place.
  asio::awaitable<void> keep(agent_options what);

  /// Decides about the next one in the place of an agent that has ended; none if there is to be none.
  std::optional<std::chrono::milliseconds> next_pause(const worker_process& who, place& here);

  bool all_were_ready() const;
  void begin_with_trouble(const std::string& name, const std::string& why);
  command program_for(const agent_options& what) const;
  std::chrono::milliseconds limit_of(const worker_process& who) const;

  primary_context& context_;
  worker_set& agents_;
  agent_hooks hooks_;
  process_watch watch_;
  task_group tasks_;  // one for each agent
  std::map<std::string, place> places_;
  std::string trouble_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "agent_supervisor.ipp"
#endif
