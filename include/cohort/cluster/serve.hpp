// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include <signal.h>
#include <string.h>

#include <fmt/format.h>

#include "../core/asio.hpp"
#include "../core/task_group.hpp"
#include "../ipc/peer.hpp"
#include "../worker/run_worker.hpp"
#include "../worker/worker.hpp"
#include "cluster.hpp"
#include "events.hpp"
#include "options.hpp"

namespace cohort {
namespace detail {

inline asio::awaitable<void> reload(cluster& primary, std::string why) {
  co_await primary.reload(std::move(why));  // what comes of it is an event
}

/// Does what the options say to signals, until it is cancelled.
inline asio::awaitable<void> heed_signals(cluster& primary, std::map<int, cluster_action> actions, task_group& tasks) {
  asio::signal_set signals(primary.get_executor());
  for (const auto& [number, action] : actions) {
    if (action != cluster_action::none) signals.add(number);
  }
  for (bool asked = false;;) {
    const int number = co_await signals.async_wait(asio::use_awaitable);
    const std::string name = fmt::format("SIG{}", ::sigabbrev_np(number));
    switch (actions.at(number)) {
      case cluster_action::none: break;
      case cluster_action::stop:
        if (asked) {
          primary.kill(name);
        } else {
          primary.stop(name);
        }
        asked = true;
        break;
      case cluster_action::kill: primary.kill(name); break;
      case cluster_action::reload: tasks.start(reload(primary, name), [](std::exception_ptr) {}); break;
      case cluster_action::scale_up: primary.scale(primary.size() + 1); break;
      case cluster_action::scale_down: primary.scale(primary.size() - 1); break;
      case cluster_action::reopen: primary.reopen(); break;
    }
  }
}

inline asio::awaitable<void> report(cluster& primary, std::function<void(const cluster_event&)> to,
                                    std::exception_ptr& failure) {
  while (const auto event = co_await primary.next_event()) {
    if (failure) continue;
    try {
      to(*event);
    } catch (...) {
      failure = std::current_exception();
      primary.stop("on_event has thrown");
    }
  }
}

inline int run_primary(cluster_options options) {
  auto to = options.on_event();
  const auto signals = options.signals();
  if (!to) to = [](const cluster_event& event) { std::fprintf(stderr, "%s\n", to_string(event).c_str()); };
  asio::io_context context(1);
  cluster primary(context.get_executor(), std::move(options));
  task_group tasks(context.get_executor());
  tasks.start(heed_signals(primary, signals, tasks), [](std::exception_ptr) {});
  int status = 1;
  std::exception_ptr failure;
  asio::co_spawn(context, report(primary, std::move(to), failure), asio::detached);
  asio::co_spawn(context, primary.run(), [&](std::exception_ptr escaped, int returned) {
    if (escaped) failure = escaped;
    status = returned;
    tasks.cancel();
  });
  context.run();
  if (failure) std::rethrow_exception(failure);
  return status;
}

}  // namespace detail

/// The whole of a clustered server: call it from main and return what it returns.
///
/// The same program is primary and worker. Started by a user it is the primary: it listens, starts itself again for
/// each worker with the same arguments, and runs until INT or TERM (graceful; a second one, or QUIT: at once). Started
/// by the primary it serves connections with `handler`, as run_worker does. Do what both need before the call.
///
/// Returns the exit status: 0 after a stop that was asked for, 1 if it could not start (said on stderr) or gave up.
inline int serve(cluster_options options, connection_handler handler) {
  if (std::getenv(detail::slot_variable) != nullptr && has_parent()) {
    return run_worker(std::move(handler), options.worker());
  }
  try {
    ::signal(SIGPIPE, SIG_IGN);  // a log that nobody reads any more must not end the primary
    ::signal(SIGCHLD, SIG_DFL);  // who starts this may have it ignored, and exit statuses would be lost (wait(2))
    return detail::run_primary(std::move(options));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

}  // namespace cohort
