// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <unistd.h>

#include "../core/asio.hpp"
#include "../core/error.hpp"
#include "../core/event.hpp"
#include "../core/task_group.hpp"
#include "detail/accept_loop.hpp"
#include "connection_handler.hpp"
#include "protocol.hpp"
#include "detail/direct_channels.hpp"
#include "detail/idle_connections.hpp"
#include "detail/job_runner.hpp"
#include "../messaging/delivery.hpp"
#include "options.hpp"
#include "../messaging/endpoint.hpp"

namespace cohort {

/// A process's accepting and serving, under a parent that says what to accept on and when to stop.
///
/// It takes acceptors (and accepts on them) and accepted sockets (and serves them) from its parent, and runs the
/// handler for each connection. It drains when the parent says so, on SIGTERM, when the parent is gone, and on a fatal
/// error: it tells the parent first, so that a replacement starts now; it accepts no more, closes idle connections,
/// lets the busy ones finish until the deadline, cancels what is left, and ends. A second SIGTERM ends the waiting.
/// SIGINT is ignored: Ctrl-C is the parent's business.
///
/// Distinct objects: safe. Shared objects: unsafe; handlers run on the worker's executor and may use it.
class worker {
 public:
  /// `channel` is what the parent has the other end of.
  worker(asio::any_io_executor executor, channel<worker_protocol::to_parent, worker_protocol::to_child> channel,
         connection_handler handler, const worker_options& options = {});

  worker(const worker&) = delete;
  worker& operator=(const worker&) = delete;

  asio::any_io_executor get_executor() { return drain_.get_executor(); }

  /// The number of this worker's place in its cluster, from 1 on, which its replacement inherits. 0 without a cluster.
  unsigned slot() const noexcept { return messages_.self().slot; }

  /// The name of the agent that this is; empty for a worker.
  const std::string& agent() const noexcept { return messages_.self().agent; }

  /// How many times its cluster had been reloaded when this worker was started, from 1 on. 0 without a cluster.
  unsigned generation() const noexcept { return generation_; }

  /// Whether the worker is on its way out: an answer should tell the client to close (`Connection: close`).
  bool draining() const noexcept { return drain_.is_set(); }

  /// Waits until the worker is on its way out: for protocols that say goodbye by themselves, as HTTP/2 does (GOAWAY).
  /// Cancelling throws operation_aborted.
  asio::awaitable<void> until_draining() { return drain_.wait(); }

  /// Waits until all agents and all workers of the cluster are ready; returns at once in a process that is started
  /// later. Cancelling throws operation_aborted.
  asio::awaitable<void> all_ready() { return all_ready_.wait(); }

  /// What messages go and come by; see `messenger`.
  message_endpoint& messages() noexcept { return messages_; }

  /// Connections being served.
  std::size_t open_connections() const noexcept { return connections_.size(); }

  /// Connections that have ended.
  std::uint64_t served_connections() const noexcept { return served_; }

  /// Waits until a connection has something to read, the end of its stream included.
  ///
  /// False when the worker drains and nothing has come by the end of `idle_grace`: the connection is idle and should be
  /// closed. A request whose bytes have arrived is never dropped. Cancelling throws operation_aborted.
  template <class Socket>
  asio::awaitable<bool> readable(Socket& socket) {
    return idle_.readable(socket);
  }

  /// Begins a drain for a reason that is nobody's fault; the exit status is 0.
  void drain(const std::string& reason) { begin_drain(worker_exit::asked, reason, false); }

  /// Begins a drain because of an error that this process should not live on with; the exit status is 1.
  void fail(const std::string& reason) { begin_drain(worker_exit::fatal, reason, false); }

  /// Begins a drain after which the parent should not start a replacement; the exit status is 78.
  void do_not_restart(const std::string& reason) { begin_drain(worker_exit::do_not_restart, reason, false); }

  /// Says that an exception has come to where nothing catches it: fatal, unless worker_options::survives_exceptions.
  void on_exception(const std::exception_ptr& failure);

  /// Accepts, serves, drains. Returns the status that the process should exit with.
  ///
  /// Call it once. Everything it has started has ended when it returns, but for handlers that ignore their cancellation
  /// for a second. Cancelling it is not supported: call drain().
  asio::awaitable<int> run();

 private:
  void show(std::string_view state);

  static member this_member();

  static unsigned number_from(const char* variable);

  /// Runs a part of the worker's own life, in which every exception is fatal.
  asio::awaitable<void> or_fail(asio::awaitable<void> work);

  /// Runs a coroutine of the worker itself, in which every exception but its cancellation is fatal.
  void start_background(asio::awaitable<void> work);

  void start_work();

  /// For what does not end for being cancelled, and ends with the process.
  static asio::awaitable<void> give_a_second(task_group& tasks);

  /// What the parent asks: to deliver a message, or to do a job.
  struct callee {
    worker& self;
    asio::awaitable<receipt> operator()(routed_message what) const { return self.messages_.receive(std::move(what)); }
    asio::awaitable<worker_protocol::job_result> operator()(worker_protocol::start_job what) const;
  };

  asio::awaitable<void> answer_calls();

  asio::awaitable<receipt> carry(routed_message what, bool directly);

  asio::awaitable<void> take_orders();

  void answer(const worker_protocol::ping& question);

  static std::uint64_t resident_memory();

  void on_connection_ended(bool leased, const std::exception_ptr& failure);

  void note_idle();

  bool is_idle() const noexcept { return connections_.size() == 0 && jobs_.running() == 0; }

  /// Tells the parent how many connections have ended, once for all that end within a millisecond.
  void tell_ended_soon();

  asio::awaitable<void> tell_ended();

  bool has_room() const { return options_.max_connections == 0 || connections_.size() < options_.max_connections; }

  asio::awaitable<void> take_handles();

  void listen(accept_loop::key key, any_handle handle);

  void serve_datagrams(accept_loop::key key, asio::ip::udp::socket socket);

  /// Begins when the word that the socket is taken is with the kernel, which delivers it whatever becomes of this
  /// process. A worker that died of the first request before that would leave the parent to lease the connection again,
  /// with the request read from it.
  asio::awaitable<void> serve_leased(any_handle socket);

  void start(any_handle socket, bool leased);

  /// Ends the worker for an exception that is not a connection's own.
  void end_on(const std::exception_ptr& failure);

  asio::awaitable<void> handle_signals();

  asio::awaitable<void> keep_grace();

  static int rank(worker_exit status) noexcept;

  void begin_drain(worker_exit why, const std::string& reason, bool empty_queues);

  asio::awaitable<void> finish_connections();

  void close_listener(accept_loop::key which);

  worker_options options_;
  connection_handler handler_;
  channel<worker_protocol::to_parent, worker_protocol::to_child> channel_;
  task_group connections_;
  task_group background_;  // of the worker itself
  std::map<accept_loop::key, std::weak_ptr<asio::cancellation_signal>> datagrams_;
  event drain_;
  event hurry_;  // a second SIGTERM came, or nothing is left to wait for
  accept_loop accepting_;
  idle_connections idle_;
  worker_exit exit_ = worker_exit::asked;
  std::uint64_t served_ = 0;
  std::uint64_t ended_ = 0;  // of those that the parent has accepted
  unsigned generation_ = 0;
  bool counts_connections_ = false;
  bool tells_ = false;
  job_runner jobs_;
  task_group work_;  // worker_options::run
  event all_ready_;
  message_endpoint messages_;
  direct_channels direct_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "worker.ipp"
#endif
