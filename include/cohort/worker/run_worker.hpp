// SPDX-License-Identifier: BSL-1.0
/// The whole of a worker process, in one function that main calls.
#pragma once

#include <type_traits>

#include "connection_handler.hpp"
#include "options.hpp"
#include "worker.hpp"

namespace cohort {

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
