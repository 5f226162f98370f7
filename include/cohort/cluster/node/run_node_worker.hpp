// SPDX-License-Identifier: BSL-1.0
/// A worker of this library under a primary of Node's cluster module.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "../../ipc/node/json.hpp"
#include "../../worker/connection_handler.hpp"
#include "../../worker/options.hpp"
#include "../../worker/worker.hpp"

namespace cohort {

/// What a worker can say to its Node primary beyond what it says by itself.
///
/// Distinct objects: safe. Shared objects: unsafe. It belongs to run_node_worker(), and runs on the worker's executor.
class node_primary_line {
 public:
  node_primary_line(const node_primary_line&) = delete;
  node_primary_line& operator=(const node_primary_line&) = delete;

  /// Sends a message, which the primary gets as worker.on('message'). False if the primary is gone or does not read.
  /// Throws EINVAL for one that Node keeps for itself.
  virtual bool post(const json& message) = 0;

  /// Leaves on the worker's own initiative, as cluster.worker.disconnect() does: begins a drain.
  virtual void leave() = 0;

 protected:
  node_primary_line() = default;
  ~node_primary_line() = default;
};

/// How a worker of a Node primary behaves.
struct node_worker_options {
  node_worker_options() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  /// Where to listen, as listen_address says it: `127.0.0.1:8000`, `:8000`, `unix:/run/app.sock`, `udp:127.0.0.1:53`.
  /// Workers of the same primary that listen at the same address share the listener, those that are Node processes too
  /// (which say `:8000` by listen(8000)). At port 0 they share one port.
  std::vector<std::string> listen;
  /// Everything else is as under a primary of this library.
  worker_options worker;
  /// Called with what the primary sends by worker.send(). What it throws is fatal.
  std::function<void(node_primary_line& primary, json message)> on_message;
};

/// Whether this process was started by a primary of Node's cluster module, and run_node_worker() was not called yet.
bool has_node_primary() noexcept;

/// The whole of a worker process under a Node primary: call it from main and return what it returns.
///
/// It is run_worker() with the same handler, for which nothing is different: the primary's `disconnect`, SIGTERM and
/// the primary's death begin a drain. When it is ready, it listens where the options say; the primary hands out
/// connections, or the socket, as its scheduling policy is. A worker that has reached worker_options::max_connections
/// refuses, and the primary gives the connection to another one.
///
/// A worker that leaves by its own wish, on SIGTERM or by worker::do_not_restart() says so to the primary, which then
/// has exitedAfterDisconnect. One that fails does not: most Node programs start another one for it.
///
/// Returns 0 after a drain, also if the primary has died; else as run_worker(). An address that cannot be listened at
/// is fatal. Throws nothing: what keeps it from starting is printed, and it returns 1.
///
/// cluster.fork() runs process.execPath and takes no other program. The way to have it start this one:
///
///     const node = process.execPath;
///     process.execPath = '/path/to/worker';
///     cluster.setupPrimary({exec: 'worker', execArgv: []});
///     cluster.fork();
///     process.execPath = node;
int run_node_worker(connection_handler handler, node_worker_options options);

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "run_node_worker.ipp"
#endif
