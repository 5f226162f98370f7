// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "../../core/asio.hpp"
#include "../../ipc/handle.hpp"
#include "../../messaging/delivery.hpp"
#include "../../messaging/endpoint.hpp"
#include "../../worker/protocol.hpp"
#include "worker_process.hpp"
#include "worker_set.hpp"

namespace cohort {

/// The primary's part in the messages of a cluster: takes each to the processes that it is for, and collects what
/// becomes of it. The cluster owns it.
///
/// Distinct objects: safe. Shared objects: unsafe. Must outlive the deliveries.
class message_router {
 public:
  /// `too_slow` is called with a process that is to get no messages any more, see slow_receiver::disconnect.
  message_router(const asio::any_io_executor& executor, const worker_set& workers, const worker_set& agents,
                 std::function<void(const worker_ptr&)> too_slow);

  message_router(const message_router&) = delete;
  message_router& operator=(const message_router&) = delete;

  /// For what the primary itself sends and hears.
  message_endpoint& endpoint() noexcept { return endpoint_; }

  /// Takes a message where it goes, and waits for what becomes of it there. Cancelling throws operation_aborted.
  asio::awaitable<receipt> route(routed_message what);

  /// Gives one end of a channel, whose other end `from` has, to the process that it wants to talk to. If there is no
  /// such process, or it does not take the end, the end is closed.
  asio::awaitable<void> connect(worker_ptr from, worker_protocol::connect_request whom, any_handle end);

 private:
  static member this_member();
  static bool is_there(const worker_process& who) noexcept;
  bool is_for_primary(const routed_message& what) const;
  static member nobody_at(const routed_message& what);

  /// The processes that are there, of those that a message is for.
  std::vector<worker_ptr> receivers(const routed_message& what);

  /// Of those in one slot, the one that serves; else one that will; else one that drains.
  static void keep_best(std::vector<worker_ptr>& those);

  /// Adds to `result` what becomes of a message at one process.
  asio::awaitable<void> deliver(worker_ptr to, std::shared_ptr<const routed_message> what, receipt& result);

  const worker_set& workers_;
  const worker_set& agents_;
  std::function<void(const worker_ptr&)> too_slow_;
  message_endpoint endpoint_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "message_router.ipp"
#endif
