// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/error.hpp"
#include "../../ipc/handle.hpp"
#include "../../worker/protocol.hpp"
#include "../../messaging/delivery.hpp"
#include "../../messaging/endpoint.hpp"
#include "worker_process.hpp"

namespace cohort {

/// The primary's part in the messages of a cluster: takes each to the processes that it is for, and collects what
/// becomes of it.
///
/// Distinct objects: safe. Shared objects: unsafe. Must outlive the deliveries.
class message_router {
 public:
  using worker_ptr = std::shared_ptr<worker_process>;
  using process_list = std::vector<worker_ptr>;

  /// `too_slow` is called with a process that is to get no messages any more, see slow_receiver::disconnect.
  message_router(const asio::any_io_executor& executor, const process_list& workers, const process_list& agents,
            std::function<void(const worker_ptr&)> too_slow)
      : workers_(workers),
        agents_(agents),
        too_slow_(std::move(too_slow)),
        endpoint_(executor, this_member(), [this](routed_message what, bool) { return route(std::move(what)); }) {}

  message_router(const message_router&) = delete;
  message_router& operator=(const message_router&) = delete;

  /// For what the primary itself sends and hears.
  message_endpoint& endpoint() noexcept { return endpoint_; }

  /// Takes a letter where it goes, and waits for what becomes of it there. Cancelling throws operation_aborted.
  asio::awaitable<receipt> route(routed_message what);

  /// Gives one end of a channel, whose other end `from` has, to the process that it wants to talk to; if there is none,
  /// or it does not take it, the end is closed.
  asio::awaitable<void> connect(worker_ptr from, worker_protocol::connect_request whom, any_handle end);

 private:
  static member this_member();

  static bool is_there(const worker_process& who) noexcept;

  bool is_for_primary(const routed_message& what) const;

  static member nobody_at(const routed_message& what);

  /// The processes that are there, of those that a letter is for.
  process_list receivers(const routed_message& what);

  /// Of those in one slot, who serves; else who will; else who drains.
  static void keep_best(process_list& those);

  /// Adds to `result` what becomes of a letter at one process.
  asio::awaitable<void> deliver(worker_ptr to, std::shared_ptr<const routed_message> what, receipt& result);

  const process_list& workers_;
  const process_list& agents_;
  std::function<void(const worker_ptr&)> too_slow_;
  message_endpoint endpoint_;
  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "message_router.ipp"
#endif
