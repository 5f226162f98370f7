// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../../core/asio.hpp"
#include "../../net/unix_listener.hpp"
#include "../stats.hpp"
#include "../supervision/primary_context.hpp"
#include "../upgrade/protocol.hpp"
#include "distributor.hpp"
#include "open_listeners.hpp"

namespace cohort {

/// The listeners of a cluster, each with its distributor. The cluster owns it; the worker_supervisor tells it who can
/// serve.
///
/// Distinct objects: safe. Shared objects: unsafe.
class listener_set {
 public:
  explicit listener_set(primary_context& context) : context_(context) {}
  listener_set(const listener_set&) = delete;
  listener_set& operator=(const listener_set&) = delete;

  /// Opens all that the options name, or takes it from `handed`. `borrowed`: what was handed is a predecessor's still.
  /// Throws as open_listeners() does.
  void open(std::vector<upgrade::listener> handed, bool borrowed);

  /// See distributor, for each of them.
  void join(const worker_ptr& who);
  void leave(const worker_ptr& who);
  void on_ended();
  bool is_overdue(const worker_process& who) const;
  void cancel();
  void resize(unsigned workers);
  bool workers_accept() const;

  /// Ends the listening: removes the files of unix sockets, and waits until all accepted connections are with a worker,
  /// or the worker's drain timeout has passed.
  asio::awaitable<void> stop();

  /// Copies of all sockets go to a successor.
  asio::awaitable<void> hand_over(peer<upgrade::protocol>& successor);

  /// The successor serves at these addresses; their queues and files are its from now on.
  void release(const std::vector<std::string>& texts);

  /// The predecessor goes; what it has handed over is this cluster's alone. Returns the addresses.
  std::vector<std::string> take_over();

  std::vector<listener_stats> stats() const;

  /// Adds a listener that the options do not name, with its distributor, which hears of all workers that have joined.
  /// `file`: of a unix socket. `handed_file`: the same, while it is a predecessor's. `text` is different for each.
  void add(std::string text, std::string address, std::shared_ptr<distributor> to, socket_file file,
           std::string handed_file);

  /// Takes a listener out that add() has added. Whoever has the distributor ends it.
  void remove(const std::string& text);

  /// Whether a worker serves.
  bool has_workers() const noexcept { return !joined_.empty(); }

 private:
  struct entry {
    std::string text;     // as the options name it
    std::string address;  // with the port that was chosen
    bool inherited = false;
    socket_file file;         // of a unix socket
    std::string handed_file;  // the same, while it is a predecessor's
    std::shared_ptr<distributor> to;
  };

  static asio::awaitable<void> stop_one(std::shared_ptr<distributor> which);

  std::shared_ptr<distributor> distribute(opened_listener& opened, queue_owner owner);

  primary_context& context_;
  std::vector<entry> entries_;
  std::vector<worker_ptr> joined_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "listener_set.ipp"
#endif
