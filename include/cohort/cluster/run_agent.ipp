// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "run_agent.hpp"

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <string>

#include <fmt/format.h>

#include "../core/asio_error.hpp"
#include "../core/config.hpp"
#include "../core/text_of.hpp"
#include "../worker/run_worker.hpp"

namespace cohort {

namespace detail {

COHORT_INLINE asio::awaitable<void> run_again_and_again(const agent_options& what, worker& self) {
  if (!what.survives_exceptions) co_return co_await what.run(self);
  asio::steady_timer pause(self.get_executor());
  for (;;) {
    std::exception_ptr failure;
    try {
      co_await what.run(self);
    } catch (...) {
      failure = std::current_exception();
    }
    if (!failure || self.draining()) co_return;
    const auto again = what.run_again_after;
    const std::string next = again ? fmt::format("it runs again in {} s", std::chrono::duration<double>(*again).count())
                                   : std::string("it is idle from now on");
    self.on_exception(std::make_exception_ptr(std::runtime_error(fmt::format("{}; {}", text_of(failure), next))));
    if (!again) co_return;
    pause.expires_after(std::min(*again, longest_time));
    co_await pause.async_wait(detail::awaited);
  }
}

}  // namespace detail

COHORT_INLINE int run_agent(const agent_options& options, const worker_options& shared) {
  worker_options own;
  own.title = shared.title;
  own.jobs = shared.jobs;
  own.on_reopen = shared.on_reopen;
  own.set_up = options.set_up;
  if (options.run) own.run = [&options](worker& self) { return detail::run_again_and_again(options, self); };
  own.tear_down = options.tear_down;
  own.survives_exceptions = options.survives_exceptions;
  own.drain_timeout = options.drain_timeout;
  const auto no_connections = [](asio::ip::tcp::socket, worker&) -> asio::awaitable<void> { co_return; };
  return run_worker(no_connections, own);
}

}  // namespace cohort
