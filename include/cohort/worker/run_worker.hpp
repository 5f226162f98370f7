// SPDX-License-Identifier: BSL-1.0
/// The whole of a worker process, in one function that main calls.
#pragma once

#include <functional>
#include <memory>
#include <type_traits>

#include "../core/asio.hpp"
#include "connection_handler.hpp"
#include "options.hpp"
#include "worker.hpp"

namespace cohort {

namespace detail {

/// How a worker process comes by its parent, and what is left to say when the worker has ended.
class parent_connection {
 public:
  virtual ~parent_connection() = default;

  /// Makes the channel on which the parent speaks worker_protocol. Called once, before the worker is made.
  virtual parent_channel connect() = 0;

  /// The worker is made, and will run.
  virtual void begin(worker& self) { static_cast<void>(self); }

  /// The worker has ended; returns the status that the process exits with.
  virtual asio::awaitable<int> finish(int status);
};

using parent_connector = std::function<std::unique_ptr<parent_connection>(const asio::any_io_executor& executor)>;

/// As cohort::run_worker() for a parent that is reached in another way.
int run_worker(connection_handler handler, const worker_options& options, const parent_connector& reach);

}  // namespace detail

/// The whole of a worker process: call it from main and return what it returns.
///
/// Serves the parent that started this process with a channel (a cluster's primary, or any program that speaks
/// worker_protocol) until it drains: see `worker`. It makes the only executor, and runs it in this thread. Prints what
/// keeps it from starting to stderr and returns 1.
///
/// INT, HUP, QUIT, USR1, USR2, TTIN and TTOU are ignored from here on, unless the program has handlers of its own for
/// them: what is sent to all processes of a server is the primary's business. If the parent dies and the worker's loop
/// does not turn any more, the process is killed 2 s after its drain timeout.
int run_worker(connection_handler handler, const worker_options& options = {});

template <class Handler>
  requires(!std::is_convertible_v<Handler, connection_handler>)
int run_worker(Handler&&, const worker_options& = {}) {
  detail::refuse_handler<std::decay_t<Handler>>();
  return 1;
}

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "run_worker.ipp"
#endif
