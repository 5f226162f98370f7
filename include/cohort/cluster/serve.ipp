// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "serve.hpp"

#include "../core/config.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <system_error>
#include <utility>

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <fmt/format.h>

#include "../ipc/handle.hpp"
#include "../ipc/peer.hpp"
#include "../process/this_process.hpp"
#include "../worker/run_worker.hpp"
#include "../worker/worker.hpp"
#include "agent.hpp"
#include "service/orphan_reaper.hpp"
#include "service/sd_notify.hpp"
#include "upgrade/protocol.hpp"

namespace cohort {

namespace detail {

COHORT_INLINE asio::awaitable<void> reload(cluster& primary, std::string why) {
  co_await primary.reload(std::move(why));  // what comes of it is an event
}

COHORT_INLINE asio::awaitable<void> upgrade_primary(cluster& primary, const status_reporter& service) {
  co_await primary.upgrade(service.environment());  // what comes of it is an event
}

COHORT_INLINE void scale_by(cluster& primary, int difference) {
  const auto wanted = static_cast<int>(primary.size()) + difference;
  try {
    primary.scale(static_cast<unsigned>(std::max(wanted, 1)));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "scale to %d: %s\n", wanted, error.what());
  }
}

COHORT_INLINE asio::awaitable<void> handle_signals(cluster& primary, std::map<int, cluster_action> actions,
                                                   const status_reporter& service, task_group& tasks) {
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
      case cluster_action::upgrade: tasks.start(upgrade_primary(primary, service), [](std::exception_ptr) {}); break;
      case cluster_action::scale_up: scale_by(primary, 1); break;
      case cluster_action::scale_down: scale_by(primary, -1); break;
      case cluster_action::reopen: primary.reopen(); break;
    }
  }
}

COHORT_INLINE asio::awaitable<void> report(cluster& primary, std::function<void(const cluster_event&)> to,
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

COHORT_INLINE void check_handler(const cluster_options& options, const connection_handler& handler) {
  for (const auto& each : options.listen) {
    if (each.text.starts_with("fd:")) continue;
    if (each.text.starts_with("udp:")) {
      if (options.worker.serve_datagrams) continue;
      throw_error(fmt::format("listen {}: no worker_options::serve_datagrams", each.text), errc::invalid_option);
    }
    const auto kind = each.text.starts_with("unix:") ? handle_kind::local_socket : handle_kind::tcp_socket;
    if (handler.takes(kind)) continue;
    throw_error(fmt::format("listen {}: the handler takes no {}", each.text, cohort::to_string(kind)),
                errc::invalid_option);
  }
}

COHORT_INLINE void say_broken(std::exception_ptr broken) {
  try {
    if (broken) std::rethrow_exception(broken);
  } catch (const std::system_error& error) {
    if (error.code() != asio::error::operation_aborted) std::fprintf(stderr, "control socket: %s\n", error.what());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "control socket: %s\n", error.what());
  }
}

COHORT_INLINE asio::awaitable<void> succeed_control(cluster& primary, std::string path, const status_reporter& service,
                                                    std::optional<control_server>& control) {
  asio::steady_timer pause(primary.get_executor());
  for (;;) {
    try {
      control.emplace(primary, path, service.environment());
      co_return;
    } catch (const std::system_error& error) {
      if (error.code() != std::errc::address_in_use) throw;
    }
    pause.expires_after(std::chrono::milliseconds(50));
    co_await pause.async_wait(asio::use_awaitable);
  }
}

COHORT_INLINE int run_primary(cluster_options options) {
  auto to = options.on_event;
  const auto signals = options.signals;
  if (!to) to = [](const cluster_event& event) { std::fprintf(stderr, "%s\n", to_string(event).c_str()); };
  const bool reap = options.reap_orphans.value_or(::getpid() == 1);
  const std::string control_path = options.control_socket;
  const auto own_part = options.in_primary;
  asio::io_context context(1);
  // Before any worker is started, who would else find the manager's socket in its environment.
  status_reporter service(context.get_executor(), sd_notifier(), options.worker_count());
  std::optional<upgrade::predecessor> before;
  if (upgrade::asked_for()) before.emplace(context.get_executor());
  cluster primary(context.get_executor(), std::move(options));
  std::optional<control_server> control;
  if (!control_path.empty() && !before) control.emplace(primary, control_path, service.environment());
  if (control) asio::co_spawn(context, control->run(), [](std::exception_ptr broken) { say_broken(broken); });
  task_group tasks(context.get_executor());
  if (!control_path.empty() && before) {
    auto succession = succeed_control(primary, control_path, service, control);
    tasks.start(std::move(succession), [&context, &control](std::exception_ptr broken) {
      say_broken(broken);
      if (control) asio::co_spawn(context, control->run(), [](std::exception_ptr later) { say_broken(later); });
    });
  }
  tasks.start(handle_signals(primary, signals, service, tasks), [](std::exception_ptr) {});
  tasks.start(service.retry(), [](std::exception_ptr) {});
  tasks.start(service.keep_alive(), [](std::exception_ptr) {});
  if (reap) tasks.start(reap_orphans(), [](std::exception_ptr) {});
  int status = 1;
  std::exception_ptr failure;
  const auto note = [&](const cluster_event& event) {
    service.note(event);
    if (control) control->note(event);
    if (control && event.what == cluster_event::kind::upgraded) control->stop();  // it is the successor's now
    to(event);
  };
  asio::co_spawn(context, report(primary, note, failure), [&](std::exception_ptr) {
    if (control) control->stop();
  });
  if (own_part) {
    tasks.start(own_part(primary), [&](std::exception_ptr thrown) {
      if (!thrown || primary.is_stopping()) return;
      if (!failure) failure = thrown;
      primary.stop("in_primary has thrown");
    });
  }
  asio::co_spawn(context, primary.run(before ? &*before : nullptr), [&](std::exception_ptr escaped, int returned) {
    if (escaped) failure = escaped;
    status = returned;
    tasks.cancel();
  });
  context.run();
  if (failure) std::rethrow_exception(failure);
  return status;
}

}  // namespace detail

COHORT_INLINE int serve(cluster_options options, connection_handler handler) {
  if (std::getenv(detail::slot_variable) != nullptr && has_parent()) {
    const char* const agent = std::getenv(detail::agent_variable);
    if (agent == nullptr) return run_worker(std::move(handler), options.worker_with_jobs());
    for (const auto& each : options.agents) {
      if (each.name == agent) return run_agent(each, options.worker_with_jobs());
    }
    std::fprintf(stderr, "agent %s: there is none of this name\n", agent);
    return static_cast<int>(worker_exit::do_not_restart);
  }
  try {
    ::signal(SIGPIPE, SIG_IGN);  // a log that nobody reads any more must not end the primary
    ::signal(SIGCHLD, SIG_DFL);  // who starts this may have it ignored, and exit statuses would be lost (wait(2))
    detail::check_handler(options, handler);
    if (!options.worker.title.empty()) this_process::set_title(options.worker.title + ": primary");
    return detail::run_primary(std::move(options));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

}  // namespace cohort
