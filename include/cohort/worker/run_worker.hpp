// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "connection_handler.hpp"
#include "options.hpp"
#include "../core/asio.hpp"

namespace cohort {
namespace detail {

/// Lets go of the coroutines that have not ended before the worker goes that they use.
class worker_loop : public asio::io_context {
 public:
  worker_loop() : asio::io_context(1) {}

  struct ending {
    worker_loop& loop;
    ~ending() { loop.shutdown(); }
  };
};

}  // namespace detail

/// The whole of a worker process: call it from main and return what it returns.
///
/// Serves the parent that started this process with a channel (a cluster's primary, or any program that speaks
/// worker_protocol) until it drains: see `worker`. Prints what keeps it from starting to stderr and returns 1.
int run_worker(connection_handler handler, const worker_options& options = {});

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "run_worker.ipp"
#endif
