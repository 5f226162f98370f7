// SPDX-License-Identifier: BSL-1.0
/// What a `worker` is made of, behind its pointer: the parts, and what one says to another.
#pragma once

#include <cstddef>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>

#include "../../core/asio.hpp"
#include "../../core/task_group.hpp"
#include "../connection_handler.hpp"
#include "../options.hpp"
#include "connection_set.hpp"
#include "drain.hpp"
#include "idle_connections.hpp"
#include "job_runner.hpp"
#include "parent_link.hpp"

namespace cohort::detail {

/// See worker. Distinct objects: safe. Shared objects: unsafe.
class worker_impl final : private parent_orders {
 public:
  worker_impl(worker& self, const asio::any_io_executor& executor, parent_channel channel, connection_handler handler,
              const worker_options& options);

  worker_impl(const worker_impl&) = delete;
  worker_impl& operator=(const worker_impl&) = delete;

  asio::any_io_executor get_executor() { return background_.get_executor(); }
  unsigned generation() const noexcept { return generation_; }
  bool draining() const noexcept { return drain_.begun(); }
  asio::awaitable<void> until_draining() { return drain_.wait_turn(); }
  std::size_t open_connections() const noexcept { return connections_.size(); }
  idle_connections& idle() noexcept { return idle_; }
  parent_link& parent() noexcept { return parent_; }

  void drain(worker_exit why, const std::string& reason, bool empty_queues) override;
  void on_exception(const std::exception_ptr& failure);
  asio::awaitable<int> run();

 private:
  void listen(const worker_protocol::listen& what, any_handle socket) override;
  void unlisten(const worker_protocol::unlisten& what) override;
  void serve_leased(any_handle socket) override;
  void reopen() override;
  asio::awaitable<worker_protocol::job_result> start_job(std::string schedule) override;
  bool takes_handles() const override { return draining() || connections_.has_room(); }
  asio::awaitable<void> wait_room() override { return connections_.wait_room(); }
  void count(worker_protocol::pong& figures) const override;
  void run_beside(asio::awaitable<void> work) override;

  /// What ps shows of this process.
  void show(std::string_view state);

  void fail(const std::string& reason) { drain(worker_exit::fatal, reason, false); }

  /// Runs a part of the worker's own life, in which every exception is fatal.
  asio::awaitable<void> or_fail(asio::awaitable<void> work);

  /// Runs worker_options::run.
  void start_work();

  asio::awaitable<void> handle_signals();

  /// Begins when the word that the socket is taken is with the kernel, which delivers it whatever becomes of this
  /// process. A worker that died of the first request before that would leave the parent to lease the connection again,
  /// with the request read from it.
  asio::awaitable<void> taken();

  void on_connection_ended(bool leased, const std::exception_ptr& failure);

  /// Ends the worker for an exception, unless it is a system_error with a code that is `harmless`.
  void end_on(const std::exception_ptr& failure, bool (*harmless)(const std::error_code&) noexcept);

  bool is_idle() const noexcept { return connections_.size() == 0 && jobs_.running() == 0; }
  void note_idle();

  worker_options options_;
  const unsigned generation_;
  task_group background_;  // of the worker itself
  task_group work_;        // worker_options::run
  idle_connections idle_;
  drain_sequence drain_;
  connection_set connections_;
  job_runner jobs_;
  parent_link parent_;
  worker& self_;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "worker_impl.ipp"
#endif
