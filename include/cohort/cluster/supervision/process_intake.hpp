// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../../core/asio.hpp"
#include "../../core/semaphore.hpp"
#include "../../core/task_group.hpp"
#include "../../ipc/handle.hpp"
#include "../../worker/protocol.hpp"
#include "message_router.hpp"
#include "primary_context.hpp"
#include "worker_process.hpp"

namespace cohort {

/// What the primary takes from a process for others, within process_limits: its messages, and the ends of channels that
/// it asks to have introduced. The process may be dishonest: who sends a message is what the primary knows, not what
/// the message says, and no process speaks as the primary.
///
/// Distinct objects: safe. Shared objects: unsafe. A process_watch owns it, and it outlives what it has begun.
class process_intake {
 public:
  process_intake(primary_context& context, message_router& router) : context_(context), router_(router) {}

  /// Takes its messages to where they go, until its channel ends.
  asio::awaitable<void> take_messages(worker_ptr who);

  /// Takes the channels that it makes to their other ends, each in `beside`; `turns` are as many as
  /// process_limits::max_introductions, and outlive `beside`.
  asio::awaitable<void> take_introductions(worker_ptr who, task_group& beside, semaphore& turns);

 private:
  asio::awaitable<receipt> take(worker_ptr who, routed_message what);

  asio::awaitable<void> introduce(worker_ptr who, worker_protocol::connect_request whom, any_handle end,
                                  semaphore& turns);

  primary_context& context_;
  message_router& router_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "process_intake.ipp"
#endif
