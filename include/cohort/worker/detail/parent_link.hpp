// SPDX-License-Identifier: BSL-1.0
/// Everything that a worker says to its parent and hears from it.
///
/// The worker owns its parent_link, which owns the channel and the messages of the cluster. It runs on the worker's
/// executor.
#pragma once

#include <cstdint>
#include <string>

#include "../../core/asio.hpp"
#include "../../core/event.hpp"
#include "../../core/task_group.hpp"
#include "../../ipc/handle.hpp"
#include "../../messaging/delivery.hpp"
#include "../../messaging/endpoint.hpp"
#include "../exit_codes.hpp"
#include "../parent_channel.hpp"
#include "../protocol.hpp"
#include "counter_set.hpp"
#include "direct_channels.hpp"

namespace cohort::detail {

/// What a worker does when its parent says so, and what its parent wants to know.
class parent_orders {
 public:
  virtual void listen(const worker_protocol::listen& what, any_handle socket) = 0;
  virtual void unlisten(const worker_protocol::unlisten& what) = 0;
  /// Serves a connection that the parent has accepted.
  virtual void serve_leased(any_handle socket) = 0;
  virtual void drain(worker_exit why, const std::string& reason, bool empty_queues) = 0;
  virtual void reopen() = 0;
  virtual asio::awaitable<worker_protocol::job_result> start_job(std::string schedule) = 0;

  /// Whether it can take what comes with a handle now, and a wait for a change of that.
  virtual bool takes_handles() const = 0;
  virtual asio::awaitable<void> wait_room() = 0;

  /// Puts in how many connections are open, and how many have ended.
  virtual void count(worker_protocol::pong& figures) const = 0;

  /// Runs a coroutine of the worker itself, whose failure is the worker's.
  virtual void run_beside(asio::awaitable<void> work) = 0;

 protected:
  ~parent_orders() = default;
};

/// Distinct objects: safe. Shared objects: unsafe. Must outlive what it runs with parent_orders::run_beside(), and
/// direct_tasks().
class parent_link {
 public:
  parent_link(const asio::any_io_executor& executor, parent_channel channel, parent_orders& orders);

  parent_link(const parent_link&) = delete;
  parent_link& operator=(const parent_link&) = delete;

  message_endpoint& messages() noexcept { return messages_; }
  const message_endpoint& messages() const noexcept { return messages_; }

  counter_set& counters() noexcept { return counters_; }

  asio::awaitable<void> all_ready() { return all_ready_.wait(); }

  /// Whether the whole cluster has been ready, and has not been told to stop.
  bool in_service() const noexcept { return all_ready_.is_set() && !leaving_; }

  /// Takes orders and answers calls from now on.
  void start();

  /// Says that the worker is ready, and takes handles from now on.
  void say_ready();

  /// Says that the worker drains, and lets handles and direct messages go back to who sends them.
  void say_draining(worker_exit why, const std::string& reason);

  /// Says that something went wrong that the worker lives on with.
  void say_failed(const std::string& what);

  /// Waits until everything that was said is with the kernel. Returns also when the parent is gone.
  asio::awaitable<void> flush();

  /// A connection that the parent has accepted has ended. The parent is told once for all that end in a millisecond.
  void note_ended();

  /// Ends what this side says, and closes the channel. A parent that does not read is given a second.
  asio::awaitable<void> disconnect();

  /// Says once more how the worker is, unasked: its last word about what it has served and counted.
  void say_figures();

  /// What runs for direct_channels: cancel it and wait for it before this goes.
  task_group& direct_tasks() noexcept { return direct_.tasks(); }

 private:
  /// What the parent asks: to deliver a message, or to do a job.
  struct callee {
    parent_link& self;
    asio::awaitable<receipt> operator()(routed_message what) const;
    asio::awaitable<worker_protocol::job_result> operator()(worker_protocol::start_job what) const;
  };

  asio::awaitable<void> answer_calls();

  asio::awaitable<void> take_orders();

  void obey(const worker_protocol::to_child& order);

  asio::awaitable<void> take_handles();

  void answer(const worker_protocol::ping& question);

  void say_counters();

  void tell_ended_soon();

  asio::awaitable<void> tell_ended();

  /// Takes a message on its way out, by way of the parent or directly.
  asio::awaitable<receipt> carry(routed_message what, bool directly);

  asio::any_io_executor get_executor() { return all_ready_.get_executor(); }

  parent_orders& orders_;
  parent_channel channel_;
  event all_ready_;
  message_endpoint messages_;
  direct_channels direct_;
  counter_set counters_;
  std::uint64_t last_ping_ = 0;
  std::uint64_t ended_ = 0;  // of the connections that the parent has accepted
  bool leaving_ = false;     // the cluster stops soon
  bool counts_connections_ = false;
  bool tells_ = false;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "parent_link.ipp"
#endif
