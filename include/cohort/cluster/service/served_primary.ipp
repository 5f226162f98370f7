// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "served_primary.hpp"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

#include <unistd.h>

#include <fmt/format.h>

#include "../../core/asio_error.hpp"
#include "../../core/config.hpp"
#include "../../core/error.hpp"
#include "../../core/error_log.hpp"
#include "../../core/text_of.hpp"
#include "../supervision/primary_context.hpp"
#include "orphan_reaper.hpp"
#include "sd_notify.hpp"

namespace cohort::detail {

/// The cluster goes on without it.
COHORT_INLINE void say_broken(const char* what, const std::exception_ptr& broken) {
  const auto error = system_error_in(broken);
  if (!broken || (error && error->code() == operation_aborted())) return;
  error_log::write(fmt::format("{}: {}", what, text_of(broken)));
}

COHORT_INLINE void say_control_broken(const std::exception_ptr& broken) { say_broken("control socket", broken); }
COHORT_INLINE void say_health_broken(const std::exception_ptr& broken) { say_broken("health address", broken); }

/// How long the steps may take that the service manager waits for.
COHORT_INLINE status_reporter::patience patience_of(const cluster_options& options) {
  constexpr auto kill_after = primary_context::kill_after;
  status_reporter::patience result;
  result.boot = options.start_timeout + kill_after;
  auto agents = std::chrono::milliseconds(0);
  for (const auto& each : options.agents) agents = std::max(agents, each.drain_timeout + kill_after);
  // Connections that were accepted go to a worker, the workers drain, the agents drain.
  const auto workers = 2 * options.worker.drain_timeout + kill_after;
  result.stop = options.lame_duck + workers + agents + kill_after;
  return result;
}

COHORT_INLINE served_primary::served_primary(cluster_options options)
    : options_(std::move(options)),
      service_(context_.get_executor(), sd_notifier(), options_.worker_count(), patience_of(normalized(options_))),
      primary_(context_.get_executor(), options_),
      tasks_(context_.get_executor()),
      lasting_(context_.get_executor()) {
  if (upgrade::asked_for()) before_.emplace(context_.get_executor());
}

COHORT_INLINE int served_primary::run() {
  constexpr ignored cancelled("it goes on until it is cancelled");
  if (!options_.pid_file.empty()) {
    if (before_) {
      tasks_.start(take_pid_file_later(), [this](const std::exception_ptr& broken) {
        const auto error = system_error_in(broken);
        if (broken && !(error && error->code() == operation_aborted())) report(text_of(broken));
      });
    } else {
      pid_file_ = pid_file(options_.pid_file);
    }
  }
  if (!options_.health_address.empty()) {
    if (before_) {
      tasks_.start(open_health_later(), say_health_broken);
    } else {
      health_.emplace(primary_, options_.health_address);
    }
  }
  if (!options_.control_socket.empty()) {
    if (before_) {
      tasks_.start(open_control_later(), say_control_broken);
    } else {
      open_control();
    }
  }
  if (health_) lasting_.start(health_->run(), say_health_broken);
  signals_.emplace(
      primary_, options_.signals, service_.environment(), tasks_, [this](const std::string& what) { report(what); },
      [this] { look_for_control(); });
  tasks_.start(signals_->run(), [this](std::exception_ptr thrown) { on_signals_end(std::move(thrown)); });
  tasks_.start(service_.retry(), cancelled);
  tasks_.start(service_.keep_alive(), cancelled);
  if (options_.reap_orphans.value_or(::getpid() == 1)) tasks_.start(reap_orphans(), cancelled);
  lasting_.start(report_events(), [this](const std::exception_ptr&) {
    if (control_) control_->stop();
    if (health_) health_->stop();
  });
  if (options_.in_primary) {
    tasks_.start(options_.in_primary(primary_), [this](const std::exception_ptr& thrown) {
      if (!thrown || primary_.is_stopping()) return;
      failure_ = thrown;
      primary_.stop("in_primary has thrown");
    });
  }
  lasting_.start(run_cluster(), [this](std::exception_ptr thrown) {
    if (thrown) failure_ = std::move(thrown);
    tasks_.cancel();
  });
  context_.run();
  if (failure_) std::rethrow_exception(failure_);
  return status_;
}

COHORT_INLINE asio::awaitable<void> served_primary::run_cluster() {
  status_ = co_await primary_.run(before_ ? &*before_ : nullptr);
}

COHORT_INLINE asio::awaitable<void> served_primary::report_events() {
  while (const auto event = co_await primary_.next_event()) {
    note(*event);
  }
}

COHORT_INLINE void served_primary::note(const cluster_event& event) {
  service_.note(event);
  if (control_) control_->note(event);
  if (event.what == cluster_event::kind::upgraded) {  // these are the successor's now
    if (control_) control_->stop();
    if (health_) health_->stop();
    pid_file_.remove();
  }
  if (!options_.on_event) {
    error_log::write(to_string(event));
    return;
  }
  try {
    options_.on_event(event);
  } catch (...) {  // a log that is full must not stop the service
    const auto what = text_of(std::current_exception());
    error_log::write(fmt::format("on_event has thrown: {}; at: {}", what, to_string(event)));
  }
}

COHORT_INLINE void served_primary::open_control() {
  control_.emplace(primary_, options_.control_socket, service_.environment(), options_.control_group);
  lasting_.start(control_->run(), say_control_broken);
}

COHORT_INLINE asio::awaitable<void> served_primary::open_control_later() {
  asio::steady_timer pause(context_);
  for (;;) {
    try {
      open_control();
      co_return;
    } catch (...) {
      const auto error = caught();
      if (error.code() != std::errc::address_in_use) throw;
    }
    pause.expires_after(std::chrono::milliseconds(50));
    co_await pause.async_wait(awaited);
  }
}

COHORT_INLINE asio::awaitable<void> served_primary::open_health_later() {
  asio::steady_timer pause(context_);
  while (!primary_.is_stopping()) {
    try {
      health_.emplace(primary_, options_.health_address);
      lasting_.start(health_->run(), say_health_broken);
      co_return;
    } catch (...) {
      const auto error = caught();
      if (error.code() != std::errc::address_in_use) throw;
    }
    pause.expires_after(std::chrono::milliseconds(50));
    co_await pause.async_wait(awaited);
  }
}

COHORT_INLINE asio::awaitable<void> served_primary::take_pid_file_later() {
  asio::steady_timer pause(context_);
  for (;;) {
    try {
      pid_file_ = pid_file(options_.pid_file);
      co_return;
    } catch (...) {
      const auto error = caught();
      if (error.code() != errc::already_running) throw;
    }
    pause.expires_after(std::chrono::milliseconds(50));
    co_await pause.async_wait(awaited);
  }
}

COHORT_INLINE void served_primary::report(const std::string& what) {
  note(cluster_event(cluster_event::kind::failed, 0, 0, what));
}

COHORT_INLINE void served_primary::look_for_control() {
  if (!control_) return;
  try {
    control_->look();
  } catch (...) {
    say_control_broken(std::current_exception());
  }
}

COHORT_INLINE void served_primary::on_signals_end(std::exception_ptr thrown) {
  if (!thrown || primary_.is_stopping()) return;
  const auto error = system_error_in(thrown);
  if (error && error->code() == operation_aborted()) return;
  failure_ = std::move(thrown);  // a primary that hears no signal could not be stopped any more
  primary_.stop("no signal can be handled");
}

}  // namespace cohort::detail
