// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "serve.hpp"

#include <cstdlib>
#include <exception>
#include <functional>
#include <utility>

#include <signal.h>

#include <fmt/format.h>

#include "../core/config.hpp"
#include "../core/error.hpp"
#include "../core/error_log.hpp"
#include "../ipc/handle.hpp"
#include "../ipc/peer.hpp"
#include "../process/this_process.hpp"
#include "../worker/environment.hpp"
#include "../worker/exit_codes.hpp"
#include "../worker/run_worker.hpp"
#include "run_agent.hpp"
#include "service/served_primary.hpp"

namespace cohort {
namespace detail {

/// An address whose connections the handler does not take would make every worker fail.
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

/// What a process does that the primary has started.
COHORT_INLINE int serve_as_worker(const cluster_options& options, connection_handler handler) {
  const char* const agent = std::getenv(agent_variable);
  if (agent == nullptr) return run_worker(std::move(handler), options.worker_with_jobs());
  for (const auto& each : options.agents) {
    if (each.name == agent) return run_agent(each, options.worker_with_jobs());
  }
  error_log::write(fmt::format("agent {}: there is none of this name", agent));
  return static_cast<int>(worker_exit::do_not_restart);
}

COHORT_INLINE int serve_as_primary(cluster_options options, const std::function<void(const cluster_options&)>& check) {
  try {
    ::signal(SIGPIPE, SIG_IGN);  // a log that nobody reads any more must not end the primary
    ::signal(SIGCHLD, SIG_DFL);  // who starts this may have it ignored, and exit statuses would be lost (wait(2))
    check(options);
    if (!options.worker.title.empty()) this_process::set_title(options.worker.title + ": primary");
    served_primary primary(std::move(options));
    return primary.run();
  } catch (const std::exception& error) {
    error_log::write(error.what());
    return 1;
  }
}

}  // namespace detail

COHORT_INLINE int serve(cluster_options options, connection_handler handler) {
  error_log::open_standard_descriptors();
  if (std::getenv(detail::slot_variable) != nullptr && has_parent()) {
    return detail::serve_as_worker(options, std::move(handler));
  }
  const auto check = [&handler](const cluster_options& given) { detail::check_handler(given, handler); };
  return detail::serve_as_primary(std::move(options), check);
}

COHORT_INLINE int serve(cluster_options options) {
  error_log::open_standard_descriptors();
  return detail::serve_as_primary(std::move(options), [](const cluster_options& given) {
    if (!given.program) throw_error("serve: no handler, and no program for the workers", errc::invalid_option);
  });
}

}  // namespace cohort
