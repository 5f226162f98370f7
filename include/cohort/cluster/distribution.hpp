// SPDX-License-Identifier: BSL-1.0
/// The ways from a listener to the workers.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "../core/asio.hpp"
#include "../core/error.hpp"
#include "supervision/worker_process.hpp"

namespace cohort {

/// How the connections of a listener reach the workers.
enum class distribution {
  /// The primary accepts and leases each socket to the next worker in turn. One that a worker has not taken when it
  /// dies or refuses goes to another. What nobody has room for waits in the kernel's queue.
  round_robin,
  /// As round_robin, but to the worker that has the fewest connections, of several in turn.
  least_connections,
  /// As round_robin, but each client address to a worker of its own, for as long as this worker lives and has not
  /// reached worker_options::max_connections; its replacement inherits it. Unix sockets have no such address: in turn.
  by_address,
  /// As round_robin, but to the worker that the user's own picker chooses: cluster_options::picker.
  custom,
  /// All workers accept on the same listener: no hop through the primary, and no say in who gets how many.
  shared,
  /// A listener a slot (SO_REUSEPORT, socket(7)): the kernel spreads connections by their addresses. The primary makes
  /// and keeps them all, and lends that of a slot without a worker to another one. An address that somebody listens on
  /// already is refused, even if the kernel would let this user share it. Unix sockets, which have nothing like it, are
  /// shared; of inherited sockets there must be one for each worker.
  reuse_port,
};

std::string_view to_string(distribution how) noexcept;

/// The distribution of this name. Throws errc::invalid_option if there is none.
distribution parse_distribution(std::string_view name);

/// Whose the queue of a listener is when the cluster stops.
enum class queue_owner {
  cluster,  ///< nobody else's: no more connections begin, and those that wait are served
  others,   ///< also somebody else's, who goes on listening: nothing is done to it, and those that wait are left there
};

/// Brings the connections of one listener to the workers of a cluster.
///
/// The cluster tells it who can serve; join() and leave() come in pairs, on the cluster's strand.
class distributor {
 public:
  using worker_ptr = std::shared_ptr<worker_process>;

  explicit distributor(queue_owner owner) : owner_(owner) {}
  virtual ~distributor() = default;

  /// A worker has become ready.
  virtual void join(const worker_ptr& who) = 0;

  /// It drains, stops or is gone: nothing more for it. What it was given and has not taken comes back by itself.
  virtual void leave(const worker_ptr& who) = 0;

  /// Ends the listening, for good, before the workers are asked to drain. Returns when all that had been accepted here
  /// is with a worker, or cancel() was called. May be called again.
  virtual asio::awaitable<void> stop() = 0;

  /// Ends what runs in the background, at once: connections that no worker has taken are closed, and stop() returns.
  virtual void cancel() = 0;

  /// A worker has fewer connections than before: worker_process::open().
  virtual void on_ended() {}

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
  /// away than this, and with TCP_DEFER_ACCEPT has said something by then.
  static asio::awaitable<void> last_call();

  queue_owner owner_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "distribution.ipp"
#endif
