// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>
#include <utility>

#include <sys/types.h>

#include "../../core/asio.hpp"
#include "../../core/error.hpp"
#include "protocol.hpp"

namespace cohort {

/// Looks at a running cluster and tells it what to do, over its control socket (cluster_options::control_socket).
///
/// Every operation throws errc::peer_closed when the primary ends before it has answered, and errc::unknown_message if
/// it is of a version that does not know the question. Nothing limits the time: with_timeout() does. Cancelling throws
/// operation_aborted; what the cluster was told to do it does all the same. Many may be under way at once, eight of
/// which the primary works on.
///
/// Distinct objects: safe. Shared objects: unsafe.
class control_client {
 public:
  /// None: every operation throws errc::closed.
  control_client() = default;

  /// Connects, and waits until the primary has said that it serves this client. Throws `connect /run/app.ctl:
  /// Connection refused` and its like, ECONNREFUSED also for a user who may not (then with the reason).
  static asio::awaitable<control_client> connect(std::string path);

  /// The primary's.
  pid_t pid() const noexcept { return pid_; }

  asio::awaitable<cluster_stats> stats() { return line_.call<cluster_stats>(control_protocol::get_stats()); }

  /// See cluster::reload(); completes when it is over. It goes on when this client goes.
  asio::awaitable<reload_result> reload() { return line_.call<reload_result>(control_protocol::reload()); }

  /// See cluster::upgrade(); completes when it is over. It goes on when this client goes. After one that has succeeded
  /// the connection ends (wait_end()), and a further client finds the new primary a moment later.
  asio::awaitable<upgrade_result> upgrade() { return line_.call<upgrade_result>(control_protocol::upgrade()); }

  /// See cluster::scale().
  asio::awaitable<control_protocol::outcome> scale(unsigned workers);

  /// See cluster::kill_worker().
  asio::awaitable<control_protocol::outcome> kill_worker(unsigned slot);

  /// See cluster::stop(). Completes when the stop has begun; wait_end() waits for its end.
  asio::awaitable<control_protocol::outcome> stop() { return line_.call<control_protocol::outcome>(control_protocol::stop()); }

  /// Calls `seen(const cluster_event&)` for each event from now on, and completes when the cluster has ended. A client
  /// that is 256 events behind is disconnected: errc::peer_closed.
  template <class Seen>
  asio::awaitable<control_protocol::outcome> follow(Seen seen) {
    return line_.call<control_protocol::outcome>(
        control_protocol::follow(), [seen = std::move(seen)](const control_protocol::happened& what) mutable { seen(what.event()); });
  }

  /// Waits until the primary has ended.
  asio::awaitable<void> wait_end();

 private:
  control_protocol::client_channel line_;
  pid_t pid_ = 0;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "client.ipp"
#endif
