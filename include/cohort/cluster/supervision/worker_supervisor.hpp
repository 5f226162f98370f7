// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/event.hpp"
#include "../../core/task_group.hpp"
#include "../../process/detail/own_program.hpp"
#include "../../worker/protocol.hpp"
#include "../options.hpp"
#include "../reload.hpp"
#include "../restart_policy.hpp"
#include "worker_process.hpp"
#include "../stats.hpp"
#include "process_watch.hpp"

namespace cohort {

/// The workers of a cluster in their slots: starts them, replaces those that end, as the restart policy says, and all
/// of them when asked. What they serve is not its business.
///
/// Distinct objects: safe. Shared objects: unsafe.
class worker_supervisor : protected process_watch {
 public:
  worker_supervisor(const asio::any_io_executor& executor, cluster_options options)
      : process_watch(std::move(options)), tasks_(executor), chores_(executor), stop_(executor), changed_(executor) {}

  worker_supervisor(const worker_supervisor&) = delete;
  worker_supervisor& operator=(const worker_supervisor&) = delete;

  asio::any_io_executor get_executor() { return stop_.get_executor(); }

  /// Replaces every worker by a new one, of the program as it is on the disk now: starts new ones, and has the old ones
  /// drain when the new ones are ready, see reload_options. A new one that does not get ready ends this, and what it
  /// was to replace goes on.
  ///
  /// One at a time: a second call waits for the first one, and then does its own. Cancelling throws operation_aborted;
  /// new workers that do not serve yet are sent away. When the cluster stops, so does this.
  asio::awaitable<reload_result> reload(std::string why = "asked");

  /// Has so many workers from now on, one at least: starts those that are missing, and has those of the highest slots
  /// drain. Throws what a further listener of distribution::reuse_port may throw, and errc::invalid_option while an
  /// upgrade is under way; then nothing has changed.
  void scale(unsigned workers);

  /// How many workers there should be.
  unsigned size() const noexcept { return wanted_; }

  /// Ends one worker as a crash would: it is replaced by the restart policy. False if there is none in this slot.
  bool kill_worker(unsigned slot);

 protected:
  static constexpr std::chrono::milliseconds at_once{0};
  static constexpr const char* stopping_text = "the cluster stops";

  /// The right to replace workers that serve, which one has at a time.
  class update_lock {
   public:
    explicit update_lock(worker_supervisor& owner) : owner_(&owner) { owner_->renewing_ = true; }
    update_lock(update_lock&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)) {}
    ~update_lock();

   private:
    worker_supervisor* owner_;
  };

  /// Sends away those that do not serve yet.
  struct dismissal {
    worker_supervisor& owner;
    const std::vector<worker_ptr>& fresh;
    ~dismissal();
  };

  ~worker_supervisor() = default;

  /// Stops the cluster gracefully.
  virtual void stop(const std::string& why) = 0;
  /// A worker serves from now on; process_watch::leave() ends it.
  virtual void join(const worker_ptr& who) = 0;
  /// The slots are 1 to `workers` from now on. May throw, and has changed nothing then.
  virtual void resize(unsigned workers) = 0;
  /// The cluster stops, and no worker will take another connection.
  virtual void nobody_takes() = 0;
  /// Whether the workers must empty the listeners' queues when the cluster stops.
  virtual bool workers_accept() const = 0;

  /// From here on nobody is started or replaced.
  void begin_stop();

  std::ptrdiff_t serving() const;

  worker_ptr start(unsigned number, unsigned generation, std::chrono::milliseconds pause, bool candidate = false);

  /// A worker's whole life, from its start until it is reaped.
  asio::awaitable<void> supervise(worker_ptr who, std::chrono::milliseconds pause);

  void on_exit(const worker_ptr& who, const worker_ending& how);

  void on_state() override { changed_.notify(); }

  command program_for(const worker_process& who) override;

  /// Whether a worker that waits has waited enough.
  bool may_start(const worker_process& who) const;

  void on_ready(const worker_ptr& who) override;

  void on_draining(const worker_ptr& who, const worker_protocol::draining& word) override;

  void on_pong(const worker_ptr& who) override;

  asio::awaitable<void> recycle(worker_ptr who, const char* reason);

  /// Kills those that have been draining for the longest time, if a reload finds too many of them.
  void limit_draining();

  asio::awaitable<update_lock> lock_updates();

  /// Starts new workers for these slots, so many at a time as reload_options say, and has the old ones drain when they
  /// are ready.
  asio::awaitable<void> renew(std::vector<unsigned> numbers, reload_result& result);

  /// Has the worker of a slot drain before there is another one.
  void retire_slot(unsigned number);

  /// Starts a worker in a slot that has none which serves or will.
  void fill(unsigned number);

  /// Notes the first new worker that will not get ready.
  static bool failed_one(const std::vector<worker_ptr>& fresh, reload_result& result);

  /// Lets a new worker serve, and those drain that have served in its slot.
  void promote(const worker_ptr& who);

  /// Has a worker drain that is not to be replaced.
  void retire(const worker_ptr& who);

  /// While the cluster stops: lets go of connections that no worker will be there for.
  void drop_what_nobody_takes();

  void ask_to_stop(worker_process& who);

  /// Sees to it that a worker's slot gets another one, once.
  void replace(worker_process& who);

  /// Gives up a slot, or the cluster.
  void give_up_on(const worker_process& who, const std::string& why);

  /// Replaces all workers but that of one slot; those that end meanwhile belong to the same misfortune.
  void renew_others(unsigned slot);

  asio::awaitable<void> renew_but(unsigned slot);

  double random_fraction() { return std::uniform_real_distribution<double>(0, 1)(random_); }

  void give_up(const std::string& why, const std::exception_ptr& failure);

  task_group tasks_;  // one for each worker
  task_group chores_;
  event stop_;
  event changed_;                         // the state of a worker
  detail::program_version program_;       // of the present generation
  detail::program_version next_program_;  // of the one that a reload brings
  std::vector<worker_ptr> workers_;
  std::map<unsigned, slot_stats> past_;
  unsigned wanted_ = 0;
  unsigned generation_ = 1;
  unsigned last_generation_ = 1;
  std::uint64_t restarts_ = 0;
  std::uint64_t reloads_ = 0;
  bool renewing_ = false;
  bool renews_others_ = false;
  restart_policy::history history_;
  std::minstd_rand random_{std::random_device{}()};
  bool killed_ = false;
  bool gave_up_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "worker_supervisor.ipp"
#endif
