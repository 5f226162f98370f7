// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "run_agent.hpp"

#include "../core/config.hpp"
#include "../worker/run_worker.hpp"

namespace cohort {

COHORT_INLINE int run_agent(const agent_options& options, const worker_options& shared) {
  worker_options own;
  own.title = shared.title;
  own.jobs = shared.jobs;
  own.on_reopen = shared.on_reopen;
  own.set_up = options.set_up;
  own.run = options.run;
  own.tear_down = options.tear_down;
  own.survives_exceptions = options.survives_exceptions;
  own.drain_timeout = options.drain_timeout;
  const auto no_connections = [](asio::ip::tcp::socket, worker&) -> asio::awaitable<void> { co_return; };
  return run_worker(no_connections, own);
}

}  // namespace cohort
