// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/event.hpp"
#include "../../core/task_group.hpp"
#include "../../worker/protocol.hpp"
#include "../agent.hpp"
#include "../events.hpp"
#include "../exit_reason.hpp"
#include "message_router.hpp"
#include "../options.hpp"
#include "../restart_policy.hpp"
#include "worker_process.hpp"
#include "../stats.hpp"
#include "process_watch.hpp"

namespace cohort {

/// What the agents of a cluster want of it.
class agent_owner {
 public:
  virtual void on_agent_event(cluster_event event) = 0;
  /// An agent that was ready has ended, or another one is ready in its place.
  virtual void on_agent(const std::string& name, bool is_there) = 0;
  /// The restart policy has given up, and the cluster is to stop.
  virtual void on_agent_lost(const std::string& why) = 0;
  virtual command own_program() = 0;
  virtual message_router& router() = 0;

 protected:
  ~agent_owner() = default;
};

/// The agents of a cluster: starts each, and starts it again when it has ended.
///
/// Distinct objects: safe. Shared objects: unsafe. Must outlive stop().
class agent_supervisor final : private process_watch {
 public:
  agent_supervisor(const asio::any_io_executor& executor, const cluster_options& options, agent_owner& owner)
      : process_watch(options), owner_(owner), changed_(executor), tasks_(executor) {}

  /// The processes that there are.
  const std::vector<worker_ptr>& members() const noexcept { return members_; }

  std::vector<agent_stats> stats() const;

  /// Starts all of them, and returns when all are ready; or with what is wrong with one, or when they are to stop.
  asio::awaitable<std::string> start();

  /// Everybody in the cluster is ready.
  void announce();

  /// From here on none is started.
  void begin_stop();

  /// Has them stop, and waits until they have.
  asio::awaitable<void> stop();

  void kill();

 private:
  /// One agent's life, and that of those in its place.
  asio::awaitable<void> keep(agent_options what);

  struct membership {
    membership(std::vector<worker_ptr>& all, worker_ptr who) : all_(all), who_(std::move(who)) { all_.push_back(who_); }
    membership(const membership&) = delete;
    ~membership() { std::erase(all_, who_); }

   private:
    std::vector<worker_ptr>& all_;
    worker_ptr who_;
  };

  void on_exit(worker_process& who, const worker_ending& how);

  /// How long to wait before it is started again; none if it is not to be.
  std::optional<std::chrono::milliseconds> next_pause(const worker_process& who, restart_policy::history& history);

  void begin_with_trouble(const std::string& name, const std::string& why);

  void lose(const std::string& name, const std::exception_ptr& failure);

  std::chrono::milliseconds limit_of(const worker_process& who) const;

  void emit(cluster_event event) override { owner_.on_agent_event(std::move(event)); }
  void on_state() override { changed_.notify(); }
  void on_pong(const worker_ptr&) override {}
  void on_ended(const worker_ptr&) override {}
  void leave(const worker_ptr&) override {}
  message_router& router() override { return owner_.router(); }

  command program_for(const worker_process& who) override;

  void on_ready(const worker_ptr& who) override;

  void on_draining(const worker_ptr& who, const worker_protocol::draining& word) override;

  agent_owner& owner_;
  event changed_;
  task_group tasks_;  // one for each
  std::vector<worker_ptr> members_;
  std::set<std::string> started_;  // those that have been ready once
  std::map<std::string, std::uint64_t> restarts_;
  std::size_t ready_ = 0;
  std::string trouble_;
  std::minstd_rand random_{std::random_device{}()};
  bool announced_ = false;
  bool stopping_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "agent_supervisor.ipp"
#endif
