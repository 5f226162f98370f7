// SPDX-License-Identifier: BSL-1.0
/// What a worker serves: its connections and datagram sockets, and the accepting that brings connections.
///
/// The worker owns it. It runs on the worker's executor, and calls the user's handler there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>

#include "../../core/asio.hpp"
#include "../../core/task_group.hpp"
#include "../../ipc/handle.hpp"
#include "../connection_handler.hpp"
#include "../options.hpp"
#include "accept_loop.hpp"

namespace cohort::detail {

/// Distinct objects: safe. Shared objects: unsafe. `options` must outlive it. Cancel `tasks()` and wait for it before
/// this goes.
class connection_set {
 public:
  using key = accept_loop::key;

  /// `start(awaitable<void>)` runs a coroutine that accepts; its failure is the worker's. `ended(leased, failure)` is
  /// called when one has ended that the parent has accepted, or this worker, and also when one has failed to begin.
  connection_set(const asio::any_io_executor& executor, worker& self, connection_handler handler,
                 const worker_options& options, std::function<void(asio::awaitable<void>)> start,
                 std::function<void(bool leased, const std::exception_ptr&)> ended);

  connection_set(const connection_set&) = delete;
  connection_set& operator=(const connection_set&) = delete;

  asio::any_io_executor get_executor() { return tasks_.get_executor(); }
  task_group& tasks() noexcept { return tasks_; }

  /// How many are open, and how many have ended.
  std::size_t size() const noexcept { return tasks_.size(); }
  std::uint64_t served() const noexcept { return served_; }

  /// Whether there may be one more.
  bool has_room() const { return options_.max_connections == 0 || size() < options_.max_connections; }

  /// Waits until there may be room again, or a listener is closed.
  asio::awaitable<void> wait_room() { return accepting_.wait_room(); }

  /// Accepts on this one from now on, or serves its datagrams, instead of the one that has had its key. Throws
  /// errc::wrong_handle_kind if the handler takes no such connections.
  void listen(key which, any_handle socket);

  /// Closes the listener, or cancels what serves the datagrams.
  void unlisten(key which);

  /// Closes all listeners. With `empty_queues`, the connections that wait in their queues are served first.
  void close_listeners(bool empty_queues);

  /// Serves a connection that the parent has accepted, and that this worker has taken: after `taken` has ended.
  void serve_leased(any_handle socket, asio::awaitable<void> taken);

 private:
  void serve_datagrams(key which, asio::ip::udp::socket socket);

  asio::awaitable<void> serve_after(asio::awaitable<void> taken, any_handle socket);

  /// Serves a connection that this worker has accepted.
  void serve(any_handle socket);

  void start(asio::awaitable<void> serving, bool leased);

  void on_ended(bool leased, const std::exception_ptr& failure);

  worker& self_;
  const worker_options& options_;
  connection_handler handler_;
  task_group tasks_;
  accept_loop accepting_;
  std::map<key, std::weak_ptr<asio::cancellation_signal>> datagrams_;
  std::function<void(bool, const std::exception_ptr&)> ended_;
  std::uint64_t served_ = 0;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "connection_set.ipp"
#endif
