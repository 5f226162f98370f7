// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/task_group.hpp"
#include "../../process/detail/own_program.hpp"
#include "../distribution/listener_set.hpp"
#include "../stats.hpp"
#include "message_router.hpp"
#include "primary_context.hpp"
#include "process_watch.hpp"
#include "restarting.hpp"
#include "worker_set.hpp"

namespace cohort {

/// The generations of workers: each reload makes one, of the program as it is on the disk then.
struct worker_generations {
  unsigned current = 1;
  unsigned last = 1;                // begun, though it may have failed
  detail::program_version program;  // of the current one
  detail::program_version next;     // of the one that a reload brings
};

/// What a worker_supervisor asks of the rolling_update of its cluster.
struct update_requests {
  /// A worker has reached one of recycle_limits: `reason` says which.
  std::function<void(worker_ptr who, const char* reason)> recycle;
  /// A worker has ended under restart_scope::one_for_all: the workers of all other slots are to be replaced.
  std::function<void(unsigned slot)> renew_others;
};

/// The workers of a cluster in their slots: starts them, replaces those that end, as the restart policy says, and lets
/// them serve or drain. The cluster owns it.
///
/// Distinct objects: safe. Shared objects: unsafe. Must outlive stop().
class worker_supervisor final : private process_events {
 public:
  worker_supervisor(primary_context& context, worker_set& workers, message_router& router, listener_set& listeners,
                    update_requests requests);

  worker_supervisor(const worker_supervisor&) = delete;
  worker_supervisor& operator=(const worker_supervisor&) = delete;

  /// How many workers there should be.
  unsigned size() const noexcept { return wanted_; }
  void set_size(unsigned workers) noexcept { wanted_ = workers; }

  worker_generations& generations() noexcept { return generations_; }
  const worker_generations& generations() const noexcept { return generations_; }

  /// Starts the first worker of every slot.
  void start_all();

  /// Starts a worker in a slot, after a pause.
  worker_ptr start(unsigned number, unsigned generation, std::chrono::milliseconds pause,
                   worker_role role = worker_role::incumbent);

  /// Starts a worker in a slot that has none which serves or will.
  void fill(unsigned number);

  /// Lets a candidate serve, and those drain that have served in its slot.
  void promote(const worker_ptr& who);

  /// Has a worker drain that is not to be replaced.
  void retire(const worker_ptr& who);

  /// Has the worker of a slot drain before there is another one.
  void retire_slot(unsigned number);

  /// See cluster::scale(). The listeners have the new size already.
  void scale(unsigned workers);

  /// See cluster::kill_worker().
  bool kill_worker(unsigned slot);
  void kill_all();

  /// From here on no worker is started or replaced.
  void begin_stop();

  /// Asks all workers to drain, and waits until each is reaped.
  asio::awaitable<void> stop();

  std::uint64_t restarts() const noexcept { return restarts_; }

  /// Connections that have ended at workers that are gone.
  std::uint64_t served_before() const noexcept { return served_before_; }

  /// Whether a worker was killed while the cluster stopped, with what it had to do.
  bool has_cut_off() const noexcept { return has_cut_off_; }

  std::vector<slot_stats> slots() const;

 private:
  void on_ready(const worker_ptr& who) override;
  void on_draining(const worker_ptr& who, const worker_protocol::draining& word) override;
  void on_figures(const worker_ptr& who) override;
  void on_end(const worker_ptr& who) override;

  /// A worker's whole life, from its start until it is reaped.
  asio::awaitable<void> supervise(worker_ptr who, std::chrono::milliseconds pause);
  void on_exit(const worker_ptr& who, const worker_ending& how);
  void join(const worker_ptr& who);

  /// Whether a worker that waits has waited enough.
  bool may_start(const worker_process& who) const;
  command program_for(const worker_process& who) const;

  /// Sees to it that a worker's slot gets another one, once.
  void replace(worker_process& who);

  /// Gives up a slot, or the cluster.
  void give_up_on(const worker_process& who, const std::string& why);

  void ask_to_stop(worker_process& who);

  /// While the cluster stops: lets go of connections that no worker will be there for.
  void drop_what_nobody_takes();

  primary_context& context_;
  worker_set& workers_;
  listener_set& listeners_;
  update_requests requests_;
  process_watch watch_;
  restarting restarting_;
  task_group tasks_;  // one for each worker
  worker_generations generations_;
  std::map<unsigned, slot_stats> past_;
  unsigned wanted_ = 0;
  std::uint64_t restarts_ = 0, served_before_ = 0;
  bool has_cut_off_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "worker_supervisor.ipp"
#endif
