// SPDX-License-Identifier: BSL-1.0
/// How a worker behaves: plain data, which the main of a program fills in.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <string>

#include "../core/asio.hpp"
#include "worker_function.hpp"

namespace cohort {

class worker;

namespace detail {
/// As good as for ever, and no overflow when a timer counts it in nanoseconds.
inline constexpr std::chrono::milliseconds longest_time = std::chrono::hours(24 * 365);
}  // namespace detail

/// How a worker behaves.
struct worker_options {
  worker_options() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  /// How long a draining worker lets busy connections go on before it cancels them.
  std::chrono::milliseconds drain_timeout{30'000};
  /// How long, from the start of the drain, an idle connection may still bring a request before it is closed. A client
  /// that sends the next request at once is answered (and told to close) and not reset.
  std::chrono::milliseconds idle_grace{100};
  /// Connections are asked to go evenly over this time, so that not all clients come again at once: the waits of
  /// worker::until_draining() return one after another from the start of the drain on, and idle connections are closed
  /// one after another from the end of `idle_grace` on. Not longer than `drain_timeout`, which ends the spreading too.
  /// 0: all together.
  std::chrono::milliseconds drain_spread{0};
  /// Connections served at the same time at most; more wait in the kernel's queue, for this worker or another one. 0:
  /// no limit.
  std::size_t max_connections = 0;
  /// Runs before the worker says that it is ready: opens the database, warms the cache. What it throws is fatal, and
  /// counts as a failed boot.
  worker_function set_up;
  /// Runs beside the connections, from when the worker is ready until its last connection has ended, when it is
  /// cancelled. Need not go on so long. What it throws is fatal, see `survives_exceptions`.
  worker_function run;
  /// The jobs of schedules, by their names. What one throws is the result of that run.
  std::map<std::string, worker_function> jobs;
  /// Lets the worker live on after an exception of `run` or of what else is no connection: the cluster is told
  /// (cluster_event::kind::failed). Default: off; on for agents.
  bool survives_exceptions = false;
  /// Serves a UDP socket (addresses that begin with `udp:`), which it owns a copy of, until the worker drains: wait for
  /// datagrams by worker::readable(). It is cancelled when another worker takes the socket over.
  std::function<asio::awaitable<void>(asio::ip::udp::socket, worker&)> serve_datagrams;
  /// What ps shows of the processes: `NAME: primary`, `NAME: worker 3 gen 2 [draining]`. Empty: their command line.
  std::string title;
  /// Runs when the cluster is told to open its log files again (SIGUSR1).
  std::function<void()> on_reopen;
  /// Runs after the last connection has ended, within the drain timeout. What it throws is fatal.
  worker_function tear_down;
};

}  // namespace cohort
