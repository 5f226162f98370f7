// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "../../core/asio.hpp"
#include "../../core/error.hpp"
#include "../../core/task_group.hpp"
#include "../../worker/protocol.hpp"
#include "../events.hpp"
#include "../exit_reason.hpp"
#include "message_router.hpp"
#include "../options.hpp"
#include "worker_process.hpp"

namespace cohort {

/// Keeps one worker's process from its start until it is reaped: hears what it says, sees to it that it answers and
/// keeps its times. What follows from that, whoever derives from this decides.
///
/// Distinct objects: safe. Shared objects: unsafe.
class process_watch {
 protected:
  using worker_ptr = std::shared_ptr<worker_process>;

  // What a worker gets beyond its own deadline to end by itself before it is killed.
  static constexpr std::chrono::milliseconds kill_after{5'000};

  explicit process_watch(cluster_options options) : options_(std::move(options)) {}
  ~process_watch() = default;

  /// Something has happened.
  virtual void emit(cluster_event event) = 0;
  /// A worker's state is another one.
  virtual void on_state() = 0;
  /// It has said something.
  virtual void on_ready(const worker_ptr& who) = 0;
  virtual void on_draining(const worker_ptr& who, const worker_protocol::draining& word) = 0;
  virtual void on_pong(const worker_ptr& who) = 0;
  virtual void on_ended(const worker_ptr& who) = 0;
  /// It must get no more connections.
  virtual void leave(const worker_ptr& who) = 0;
  /// The program that it is to be.
  virtual command program_for(const worker_process& who) = 0;
  /// Who takes messages from process to process.
  virtual message_router& router() = 0;

  /// Starts the process of a worker that waits; what goes wrong is an event, and leaves it without one.
  asio::awaitable<void> launch(worker_ptr who);

  /// Attends to a process until it has ended, and tells how it has.
  asio::awaitable<worker_ending> attend(worker_ptr who);

  void enter(worker_process& who, worker_state next);

  void fail(worker_process& who, const std::string& why);

  static cluster_event about(const worker_process& who, cluster_event::kind what, std::string text = {});

  /// How long a worker that is to drain may take until it is killed.
  std::chrono::milliseconds drain_limit() const { return options_.worker.drain_timeout + kill_after; }

  cluster_options options_;

 private:
  /// Closes the channel of a worker that is gone, if it does not end by itself: a process that the worker has forked
  /// may hold the other end.
  static asio::awaitable<void> watch(worker_ptr who);

  /// Takes its messages to where they go.
  asio::awaitable<void> take_messages(worker_ptr who);

  /// Takes the channels that it makes to their other ends.
  asio::awaitable<void> take_connect_requests(worker_ptr who, task_group& beside);

  /// Hears what the worker says until its channel ends; says what was wrong with it, if anything.
  asio::awaitable<std::string> listen_to(worker_ptr who);

  /// Asks the worker again and again whether it is there, and ends it when it is not.
  asio::awaitable<void> ping_loop(worker_ptr who);

  static asio::awaitable<exit_status> reap(worker_ptr who);

  std::string timeout_text(const worker_process& who) const;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "process_watch.ipp"
#endif
