// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <exception>
#include <optional>
#include <string>

#include "../../core/asio.hpp"
#include "../../core/task_group.hpp"
#include "../../process/pid_file.hpp"
#include "../cluster.hpp"
#include "../control/health_server.hpp"
#include "../control/server.hpp"
#include "../options.hpp"
#include "../upgrade/predecessor.hpp"
#include "signals.hpp"
#include "status_reporter.hpp"

namespace cohort::detail {

/// The primary of serve(): a cluster on a loop of its own, with its signals, its control socket, what it tells the
/// service manager, and the user's part.
class served_primary {
 public:
  explicit served_primary(cluster_options options);

  served_primary(const served_primary&) = delete;
  served_primary& operator=(const served_primary&) = delete;

  /// Returns when the cluster has ended: its exit status. Throws what kept it from starting, and what the user's own
  /// functions have thrown. Call it once.
  int run();

 private:
  asio::awaitable<void> run_cluster();

  /// Gives each event to all who want it.
  asio::awaitable<void> report_events();
  void note(const cluster_event& event);

  /// Opens the control socket of a primary that takes over, as soon as the one before it has let go of it.
  asio::awaitable<void> open_control_later();
  void open_control();

  /// Listens at the health address of a primary that takes over, as soon as the one before it does not any more.
  asio::awaitable<void> open_health_later();

  /// Writes the pid file of a primary that takes over, as soon as the one before it has removed its own.
  asio::awaitable<void> take_pid_file_later();

  /// Says that something of the user's has thrown, and goes on.
  void report(const std::string& what);

  /// Signals cannot be handled: one in the options cannot be caught, for instance.
  void on_signals_end(std::exception_ptr thrown);

  /// Binds the control socket anew if its file is gone.
  void look_for_control();

  asio::io_context context_{1};
  const cluster_options options_;
  // Before any worker is started, which would else find the manager's socket in its environment.
  status_reporter service_;
  std::optional<upgrade::predecessor> before_;
  cluster primary_;
  std::optional<control_server> control_;
  std::optional<health_server> health_;
  pid_file pid_file_;
  std::optional<signal_actions> signals_;
  task_group tasks_;    // cancelled when the cluster has ended
  task_group lasting_;  // ends by itself
  int status_ = 1;
  std::exception_ptr failure_;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "served_primary.ipp"
#endif
