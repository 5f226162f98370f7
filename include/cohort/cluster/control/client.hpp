// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include <sys/socket.h>
#include <sys/types.h>

#include <fmt/format.h>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../core/system.hpp"
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
  static asio::awaitable<control_client> connect(std::string path) {
    const std::string step = "connect " + path;
    const auto endpoint = control_protocol::endpoint_of("connect", path);
    const auto executor = co_await asio::this_coro::executor;
    descriptor socket(system::call.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) throw_error(step, errno);
    asio::steady_timer pause(executor);
    while (::connect(socket.get(), endpoint.data(), static_cast<socklen_t>(endpoint.size())) != 0) {
      const int error = errno;
      if (error == EINTR) continue;
      if (error != EAGAIN) throw_error(step, error);
      pause.expires_after(std::chrono::milliseconds(10));  // its queue is full (connect(2)), and nothing tells of room
      co_await pause.async_wait(asio::use_awaitable);
    }
    control_client result;
    result.line_ = control_protocol::client_channel(executor, std::move(socket));
    const auto first = co_await result.line_.receive();
    if (!first) throw_error(step, errc::peer_closed);
    if (const auto* no = std::get_if<control_protocol::refused>(&*first)) {
      throw_error(fmt::format("{}: {}", step, no->reason), ECONNREFUSED);
    }
    if (const auto* yes = std::get_if<control_protocol::welcome>(&*first)) result.pid_ = yes->pid;
    co_return result;
  }

  /// The primary's.
  pid_t pid() const noexcept { return pid_; }

  asio::awaitable<cluster_stats> stats() { return line_.call<cluster_stats>(control_protocol::get_stats()); }

  /// See cluster::reload(); completes when it is over. It goes on when this client goes.
  asio::awaitable<reload_result> reload() { return line_.call<reload_result>(control_protocol::reload()); }

  /// See cluster::upgrade(); completes when it is over. It goes on when this client goes. After one that has succeeded
  /// the connection ends (wait_end()), and a further client finds the new primary a moment later.
  asio::awaitable<upgrade_result> upgrade() { return line_.call<upgrade_result>(control_protocol::upgrade()); }

  /// See cluster::scale().
  asio::awaitable<control_protocol::outcome> scale(unsigned workers) {
    control_protocol::scale question;
    question.workers = workers;
    return line_.call<control_protocol::outcome>(question);
  }

  /// See cluster::kill_worker().
  asio::awaitable<control_protocol::outcome> kill_worker(unsigned slot) {
    control_protocol::kill_worker question;
    question.slot = slot;
    return line_.call<control_protocol::outcome>(question);
  }

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
  asio::awaitable<void> wait_end() {
    while (const auto ignored = co_await line_.receive()) {
    }
  }

 private:
  control_protocol::client_channel line_;
  pid_t pid_ = 0;
};

}  // namespace cohort
