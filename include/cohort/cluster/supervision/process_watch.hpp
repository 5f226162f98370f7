// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <exception>
#include <string>

#include "../../core/asio.hpp"
#include "../../core/task_group.hpp"
#include "../../process/command.hpp"
#include "../../worker/protocol.hpp"
#include "../exit_reason.hpp"
#include "process_intake.hpp"
#include "primary_context.hpp"
#include "worker_process.hpp"

namespace cohort {

/// What a watched process tells who supervises it.
class process_events {
 public:
  /// It is set up.
  virtual void on_ready(const worker_ptr& who) = 0;
  /// It accepts no more and will exit.
  virtual void on_draining(const worker_ptr& who, const worker_protocol::draining& word) = 0;
  /// There are new figures of it.
  virtual void on_figures(const worker_ptr& who) = 0;
  /// It does not answer any more, or its channel has ended: it must get nothing more. May be called twice.
  virtual void on_end(const worker_ptr& who) = 0;

 protected:
  ~process_events() = default;
};

/// Keeps a process from its start until it is reaped: hears what it says, pings it, and keeps its time limits. What
/// follows from that, its supervisor decides, which owns this and outlives it.
///
/// Distinct objects: safe. Shared objects: unsafe.
class process_watch {
 public:
  process_watch(primary_context& context, message_router& router, process_events& to)
      : context_(context), intake_(context, router), to_(to) {}

  /// Starts the process of one that waits. What goes wrong is an event, and leaves it without a process.
  asio::awaitable<void> launch(worker_ptr who, command program);

  /// Attends to a process until it has been reaped, and tells how it has ended.
  asio::awaitable<worker_ending> attend(worker_ptr who);

 private:
  /// Closes the channel of a process that is gone, if it does not end by itself: a process that it has forked may hold
  /// the other end.
  static asio::awaitable<void> close_after_exit(worker_ptr who);

  /// Says so if the process does not speak the protocol, while it has still time to get ready.
  asio::awaitable<void> warn_if_silent(worker_ptr who);

  /// Hears what the process says until its channel ends; returns what was wrong with it, if anything.
  asio::awaitable<std::string> listen_to(worker_ptr who);

  /// Ends a process that a part of this could not go on with, unless its channel is what has ended.
  void end_broken(worker_process& who, const std::exception_ptr& failure);

  /// Makes an event of what a process says of itself, unless it has made too many.
  void complain(worker_process& who, std::string what);

  /// Does what one message says.
  void hear(const worker_ptr& who, const worker_protocol::to_parent& message);

  /// Asks the process again and again whether it is there, and ends it when it is not.
  asio::awaitable<void> ping_loop(worker_ptr who);

  static asio::awaitable<exit_status> reap(worker_ptr who);

  std::string timeout_text(const worker_process& who) const;

  primary_context& context_;
  process_intake intake_;
  process_events& to_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "process_watch.ipp"
#endif
