// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <vector>

#include "../../core/asio.hpp"
#include "../supervision/worker_process.hpp"

namespace cohort {

/// Whose the queue of a listener is when the cluster stops.
enum class queue_owner {
  cluster,  ///< the cluster's alone: no more connections begin, and those that wait are served
  others,   ///< another process goes on listening: nothing is done to the queue, and those that wait are left there
};

/// Brings the connections of one listener to the workers of a cluster. A listener_set owns it, and tells it who can
/// serve: join() and leave() come in pairs, on the cluster's executor.
class distributor {
 public:
  explicit distributor(queue_owner owner) : owner_(owner) {}
  distributor(const distributor&) = delete;
  distributor& operator=(const distributor&) = delete;
  virtual ~distributor() = default;

  /// A worker has become ready.
  virtual void join(const worker_ptr& who) = 0;

  /// A worker drains, stops or is gone: it gets nothing more. What it was given and has not taken comes back by itself.
  virtual void leave(const worker_ptr& who) = 0;

  /// Ends the listening, for good, before the workers are asked to drain. Returns when all that had been accepted here
  /// is with a worker, or cancel() was called. May be called again.
  virtual asio::awaitable<void> stop() = 0;

  /// Ends what runs in the background, at once: connections that no worker has taken are closed, and stop() returns.
  virtual void cancel() = 0;

  /// A worker has fewer connections than before: worker_process::open().
  virtual void on_ended() {}

  /// Whether a connection that was given to a worker has been waiting there for longer than `limit`, though the worker
  /// has answered a ping that was sent later, and does not say that it is full.
  virtual bool is_overdue(const worker_process& who, std::chrono::milliseconds limit) const {
    static_cast<void>(who), static_cast<void>(limit);
    return false;
  }

  /// The slots are 1 to `slots` from now on. Throws what open_listener() does, and has changed nothing then.
  virtual void resize(unsigned slots) { static_cast<void>(slots); }

  /// The listening sockets, still owned by this.
  virtual std::vector<int> sockets() const = 0;

  /// Whose the queue is from now on: another process has taken over, or will.
  void own(queue_owner owner) noexcept { owner_ = owner; }

  /// Whether the workers accept themselves, and so must empty the queues when the cluster stops.
  virtual bool workers_accept() const noexcept = 0;

 protected:
  /// Lets the connections through that have begun when stop_handshakes() is called: those whose client is not farther
  /// away than 100 ms, and with TCP_DEFER_ACCEPT has said something by then.
  static asio::awaitable<void> last_call();

  queue_owner owner_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "distributor.ipp"
#endif
