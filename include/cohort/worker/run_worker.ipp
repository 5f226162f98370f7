// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "run_worker.hpp"

#include "../core/config.hpp"

#include <exception>
#include <memory>
#include <utility>

#include <signal.h>
#include <sys/prctl.h>

#include <fmt/format.h>

#include "../core/error_log.hpp"
#include "../ipc/peer.hpp"
#include "../process/detail/own_program.hpp"
#include "detail/outlived_parent.hpp"
#include "environment.hpp"
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

/// A worker has its orders from its parent. What a person or a service manager tells all processes of a group at once
/// is the parent's business, but for SIGTERM. Whoever has a handler of his own for one of these keeps it.
COHORT_INLINE void take_signals() {
  for (const int number : {SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU, SIGPIPE}) {
    struct sigaction now {};
    const bool untouched = ::sigaction(number, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) == 0 &&
                           now.sa_handler == SIG_DFL;
    if (untouched) ::signal(number, SIG_IGN);
  }
  sigset_t handled;
  sigemptyset(&handled);
  sigaddset(&handled, SIGTERM);
  ::pthread_sigmask(SIG_UNBLOCK, &handled, nullptr);  // whoever started this may have it blocked
}

COHORT_INLINE asio::awaitable<int> parent_connection::finish(int status) { co_return status; }

/// The parent that has started this process with a channel.
class own_parent final : public parent_connection {
 public:
  explicit own_parent(asio::any_io_executor executor) : executor_(std::move(executor)) {}
  parent_channel connect() override { return parent<worker_protocol>(executor_); }

 private:
  asio::any_io_executor executor_;
};

COHORT_INLINE asio::awaitable<int> run_to_end(worker& self, parent_connection& by) {
  const int status = co_await self.run();
  const int last = co_await by.finish(status);
  co_return last;
}

COHORT_INLINE int run_worker(connection_handler handler, const worker_options& options, const parent_connector& reach) {
  error_log::open_standard_descriptors();
  try {
    const outlived_parent last_resort(options);
    take_signals();
    show_own_name();
    worker_loop context;
    const auto by = reach(context.get_executor());
    worker self(context.get_executor(), by->connect(), std::move(handler), options);
    const worker_loop::ending before_worker{context};
    forget_environment();
    by->begin(self);
    int status = static_cast<int>(worker_exit::fatal);
    std::exception_ptr failure;
    asio::co_spawn(context, run_to_end(self, *by), [&](std::exception_ptr escaped, int returned) {
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
    error_log::write(fmt::format("worker: {}", error.what()));
    return static_cast<int>(worker_exit::fatal);
  }
}

}  // namespace detail

COHORT_INLINE int run_worker(connection_handler handler, const worker_options& options) {
  return detail::run_worker(std::move(handler), options, [](const asio::any_io_executor& executor) {
    return std::make_unique<detail::own_parent>(executor);
  });
}

}  // namespace cohort
