// SPDX-License-Identifier: BSL-1.0
/// The process that connection handlers, agents and jobs run in, as they see it.
///
/// run_worker() owns the one worker of a process. All of it runs on one executor, and so do the handlers.
#pragma once

#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <string_view>

#include "../core/asio.hpp"
#include "../net/buffered_input.hpp"
#include "counter.hpp"
#include "detail/idle_connections.hpp"

namespace cohort {

class connection_handler;
class message_endpoint;
class parent_channel;
struct worker_options;

namespace detail {
class worker_impl;
}

/// A process's accepting and serving, under a parent that says what to accept on and when to stop.
///
/// A worker takes listeners from its parent and accepts on them, takes accepted sockets from it too, and runs the
/// handler for each connection. It drains when the parent says so, on SIGTERM, when the parent is gone, and on a fatal
/// error: it tells the parent first, so that a replacement starts now; it accepts no more, closes idle connections,
/// lets the busy ones finish until the deadline, cancels what is left, and ends. A SIGTERM that comes a second or more
/// later ends the waiting. SIGINT is ignored: Ctrl-C is the parent's business.
///
/// Distinct objects: safe. Shared objects: unsafe; handlers run on the worker's executor and may use it.
class worker {
 public:
  /// The parent has the other end of `channel`. Needs parent_channel.hpp, connection_handler.hpp and options.hpp.
  worker(asio::any_io_executor executor, parent_channel channel, connection_handler handler,
         const worker_options& options);

  worker(const worker&) = delete;
  worker& operator=(const worker&) = delete;
  ~worker();

  asio::any_io_executor get_executor();

  /// The number of this worker's place in its cluster, from 1 on, which its replacement inherits. 0 without a cluster.
  unsigned slot() const noexcept;

  /// The name of the agent that this is; empty for a worker.
  const std::string& agent() const noexcept;

  /// How many times its cluster had been reloaded when this worker was started, from 1 on. 0 without a cluster.
  unsigned generation() const noexcept;

  /// Whether the worker is on its way out: an answer should tell the client to close (`Connection: close`).
  bool draining() const noexcept;

  /// Waits until the worker is on its way out: for protocols that say goodbye by themselves, as HTTP/2 does (GOAWAY).
  /// With worker_options::drain_spread, those who wait are told one after another, who waits longest first. Cancelling
  /// throws operation_aborted.
  asio::awaitable<void> until_draining();

  /// Waits until all agents and all workers of the cluster are ready; returns at once in a process that is started
  /// later. Cancelling throws operation_aborted.
  asio::awaitable<void> all_ready();

  /// What an answer to a load balancer's health check should say: whether new connections should come here. True when
  /// all agents and workers have been ready; false for good from when the cluster is told to stop (see
  /// cluster_options::lame_duck), or this worker drains.
  bool in_service() const noexcept;

  /// What messages go and come by; see `messenger`.
  message_endpoint& messages() noexcept;

  /// Connections being served.
  std::size_t open_connections() const noexcept;

  /// The application's counter of this name, from 0 on: `self.counter("orders").add()`.
  ///
  /// The primary adds it up over all workers and agents, those that are gone included: cluster_stats::counters, and
  /// `cohort_application_total{name="orders"}` in the metrics. It is told with the answer to each ping
  /// (cluster_options::ping_interval), and once more at the end of run(). What a process has not told when it crashes
  /// or is killed is lost. The totals are those of one primary: after cluster::upgrade() they begin at 0. A primary of
  /// Node (run_node_worker()) and an older one are told nothing.
  ///
  /// To look the name up takes some thirty nanoseconds. Where that is much, keep the reference, which is good until
  /// this worker is destroyed, and pay for counter::add() alone. Throws errc::invalid_option for what is no
  /// counter::is_name(), and for a name more than counter::most.
  cohort::counter& counter(std::string_view name);

  /// Waits until a connection has something to read, the end of its stream included.
  ///
  /// False when the worker drains and nothing has come by the end of `idle_grace`: the connection is idle and should be
  /// closed. A request whose bytes have arrived is never dropped. Cancelling throws operation_aborted.
  ///
  /// A stream on top of a socket may have read bytes that the socket no longer shows: `buffered_input` says so, and
  /// cohort/net/tls.hpp has that of asio::ssl::stream. Pass the stream itself, and not the socket below it.
  template <class Stream>
  asio::awaitable<bool> readable(Stream& stream) {
    if (buffered_input<Stream>::holds(stream)) co_return true;
    auto& socket = stream.lowest_layer();
    const auto outer = co_await asio::this_coro::cancellation_state;
    detail::idle_wait mine(idle(), outer);
    if (mine.wanted()) co_await socket.async_wait(Stream::lowest_layer_type::wait_read, mine.token());
    co_return mine.result(socket.native_handle());
  }

  /// Begins a drain for a reason that is nobody's fault; the exit status is 0.
  void drain(const std::string& reason);

  /// Begins a drain because of an error that this process should not live on with; the exit status is 1.
  void fail(const std::string& reason);

  /// Begins a drain after which the parent should not start a replacement; the exit status is 78.
  void do_not_restart(const std::string& reason);

  /// Says that an exception has come to where nothing catches it: fatal, unless worker_options::survives_exceptions.
  void on_exception(const std::exception_ptr& failure);

  /// Accepts, serves, drains. Returns the status that the process should exit with.
  ///
  /// Call it once. Everything it has started has ended when it returns, but for handlers that ignore their cancellation
  /// for a second. Cancelling it is not supported: call drain().
  asio::awaitable<int> run();

 private:
  detail::idle_connections& idle() noexcept;

  const std::unique_ptr<detail::worker_impl> impl_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "worker.ipp"
#endif
