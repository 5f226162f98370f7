// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "run_worker.hpp"

#include "../core/config.hpp"

#include <cstdio>
#include <exception>
#include <utility>

#include <signal.h>
#include <sys/prctl.h>

#include "../ipc/peer.hpp"
#include "exit_codes.hpp"
#include "parent_channel.hpp"
#include "protocol.hpp"

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

COHORT_INLINE int run_worker(connection_handler handler, const worker_options& options) {
  try {
    // A worker ends by draining when its parent dies, which its channel tells; being killed for it would lose requests.
    ::prctl(PR_SET_PDEATHSIG, 0);
    ::signal(SIGINT, SIG_IGN);
    ::signal(SIGPIPE, SIG_IGN);
    detail::worker_loop context;
    worker self(context.get_executor(), parent<worker_protocol>(context.get_executor()), std::move(handler), options);
    const detail::worker_loop::ending before_worker{context};
    int status = static_cast<int>(worker_exit::fatal);
    std::exception_ptr failure;
    asio::co_spawn(context, self.run(), [&](std::exception_ptr escaped, int returned) {
      failure = escaped;
      if (!escaped) status = returned;
      context.stop();
    });
    while (!context.stopped()) {
      try {
        context.run();
      } catch (...) {
        self.on_exception(std::current_exception());
      }
    }
    if (failure) std::rethrow_exception(failure);
    return status;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "worker: %s\n", error.what());
    return static_cast<int>(worker_exit::fatal);
  }
}

}  // namespace cohort
