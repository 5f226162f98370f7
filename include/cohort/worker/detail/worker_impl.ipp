// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "worker_impl.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

#include <signal.h>

#include <fmt/format.h>

#include "../../core/asio_error.hpp"
#include "../../core/text_of.hpp"
#include "../../core/timeout.hpp"
#include "../../process/this_process.hpp"
#include "../environment.hpp"
#include "connection_error.hpp"

namespace cohort::detail {

/// The options, with times that do not overflow when a timer counts them in nanoseconds.
COHORT_INLINE worker_options with_finite_times(worker_options options) {
  options.drain_timeout = std::min(options.drain_timeout, longest_time);
  options.idle_grace = std::min(options.idle_grace, longest_time);
  options.drain_spread = std::min(options.drain_spread, options.drain_timeout);
  return options;
}

COHORT_INLINE worker_impl::worker_impl(worker& self, const asio::any_io_executor& executor, parent_channel channel,
                                       connection_handler handler, const worker_options& options)
    : options_(with_finite_times(options)),
      generation_(this_generation()),
      background_(executor),
      work_(executor),
      drain_(executor, options_, idle_),
      connections_(
          executor, self, std::move(handler), options_,
          [this](asio::awaitable<void> work) { run_beside(std::move(work)); },
          [this](bool leased, const std::exception_ptr& failure) { on_connection_ended(leased, failure); }),
      jobs_(self, options_.jobs, [this] { note_idle(); }),
      parent_(executor, std::move(channel), *this),
      self_(self) {}

COHORT_INLINE asio::awaitable<int> worker_impl::run() {
  run_beside(handle_signals());
  run_beside(drain_.close_idle());
  run_beside(drain_.ask_to_go());
  parent_.start();
  if (options_.set_up) co_await or_fail(options_.set_up(self_));
  if (!draining()) {
    show("");
    parent_.say_ready();
    if (options_.run) start_work();
  }

  co_await drain_.wait_begun();
  const auto idle = [this] { return is_idle(); };
  co_await drain_.finish(connections_.tasks(), idle);
  co_await give_a_second(work_);
  if (options_.tear_down) co_await or_fail(with_timeout(options_.tear_down(self_), options_.drain_timeout));

  parent_.say_figures();
  co_await parent_.disconnect();
  parent_.direct_tasks().cancel();
  co_await give_a_second(background_);
  co_await give_a_second(parent_.direct_tasks());
  co_return static_cast<int>(drain_.status());
}

COHORT_INLINE void worker_impl::drain(worker_exit why, const std::string& reason, bool empty_queues) {
  if (!drain_.begin(why)) return;
  jobs_.decline();
  show(" [draining]");
  // The parent hears of it before anything else happens, and starts the replacement meanwhile.
  parent_.say_draining(why, reason);
  connections_.close_listeners(empty_queues);
}

COHORT_INLINE void worker_impl::on_exception(const std::exception_ptr& failure) {
  const std::string what = text_of(failure);
  if (options_.survives_exceptions) {
    parent_.say_failed(what);
  } else {
    fail(what);
  }
}

COHORT_INLINE void worker_impl::listen(const worker_protocol::listen& what, any_handle socket) {
  if (!draining()) connections_.listen({what.listener, what.grant}, std::move(socket));
}

COHORT_INLINE void worker_impl::unlisten(const worker_protocol::unlisten& what) {
  connections_.unlisten({what.listener, what.grant});
}

COHORT_INLINE void worker_impl::serve_leased(any_handle socket) {
  connections_.serve_leased(std::move(socket), taken());
}

COHORT_INLINE asio::awaitable<void> worker_impl::taken() {
  co_await asio::post(get_executor(), asio::use_awaitable);  // it leaves at the end of this turn, with all the others
  co_await parent_.flush();
}

COHORT_INLINE void worker_impl::reopen() {
  if (options_.on_reopen) options_.on_reopen();
}

COHORT_INLINE asio::awaitable<worker_protocol::job_result> worker_impl::start_job(std::string schedule) {
  return jobs_.run(std::move(schedule));
}

COHORT_INLINE void worker_impl::count(worker_protocol::pong& figures) const {
  figures.served = connections_.served();
  figures.open = static_cast<std::uint32_t>(connections_.size());
}

COHORT_INLINE void worker_impl::run_beside(asio::awaitable<void> work) {
  background_.start(std::move(work), [this](std::exception_ptr failure) {
    if (failure) end_on(failure, is_end_of_peer);
  });
}

COHORT_INLINE void worker_impl::show(std::string_view state) {
  if (options_.title.empty()) return;
  try {
    const auto& self = parent_.messages().self();
    const std::string who = self.agent.empty() ? fmt::format("worker {} gen {}", self.slot, generation_)
                                               : fmt::format("agent {}", self.agent);
    this_process::set_title(fmt::format("{}: {}{}", options_.title, who, state));
  } catch (const std::system_error&) {
    // No /proc: ps would not show it either.
  }
}

COHORT_INLINE asio::awaitable<void> worker_impl::or_fail(asio::awaitable<void> work) {
  try {
    co_await std::move(work);
  } catch (...) {
    fail(text_of(std::current_exception()));
  }
}

COHORT_INLINE void worker_impl::start_work() {
  work_.start(options_.run(self_), [this](std::exception_ptr failure) {
    if (failure && !draining()) on_exception(failure);
  });
}

COHORT_INLINE asio::awaitable<void> worker_impl::handle_signals() {
  asio::signal_set signals(get_executor(), SIGTERM);
  // Counted apart from the parent's order: a service manager that signals the whole group at once means one stop. So
  // does whoever is told twice to pass it on.
  constexpr std::chrono::seconds same_wish{1};
  co_await signals.async_wait(awaited);
  const auto first = std::chrono::steady_clock::now();
  drain(worker_exit::asked, "SIGTERM", true);
  for (;;) {
    co_await signals.async_wait(awaited);
    if (std::chrono::steady_clock::now() - first >= same_wish) drain_.hurry();
  }
}

COHORT_INLINE void worker_impl::on_connection_ended(bool leased, const std::exception_ptr& failure) {
  if (leased) parent_.note_ended();
  if (failure) end_on(failure, is_of_connection);
  note_idle();
}

COHORT_INLINE void worker_impl::end_on(const std::exception_ptr& failure,
                                       bool (*harmless)(const std::error_code&) noexcept) {
  const auto error = system_error_in(failure);
  if (!error || !harmless(error->code())) on_exception(failure);
}

COHORT_INLINE void worker_impl::note_idle() {
  if (draining() && is_idle()) drain_.hurry();
}

}  // namespace cohort::detail
