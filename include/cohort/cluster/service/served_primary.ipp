// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "served_primary.hpp"

#include <chrono>
#include <system_error>
#include <utility>

#include <unistd.h>

#include <fmt/format.h>

#include "../../core/asio_error.hpp"
#include "../../core/config.hpp"
#include "../../core/error_log.hpp"
#include "../../core/text_of.hpp"
#include "orphan_reaper.hpp"
#include "sd_notify.hpp"

namespace cohort::detail {

/// The cluster goes on without its control socket.
COHORT_INLINE void say_broken(const std::exception_ptr& broken) {
  const auto error = system_error_in(broken);
  if (!broken || (error && error->code() == operation_aborted())) return;
  error_log::write(fmt::format("control socket: {}", text_of(broken)));
}

COHORT_INLINE served_primary::served_primary(cluster_options options)
    : options_(std::move(options)),
      service_(context_.get_executor(), sd_notifier(), options_.worker_count()),
      primary_(context_.get_executor(), options_),
      tasks_(context_.get_executor()),
      lasting_(context_.get_executor()) {
  if (upgrade::asked_for()) before_.emplace(context_.get_executor());
}

COHORT_INLINE int served_primary::run() {
  constexpr ignored cancelled("it goes on until it is cancelled");
  if (!options_.control_socket.empty()) {
    if (before_) {
      tasks_.start(open_control_later(), say_broken);
    } else {
      open_control();
    }
  }
  signals_.emplace(
      primary_, options_.signals, service_.environment(), tasks_, [this](const std::string& what) { report(what); },
      [this] { look_for_control(); });
  tasks_.start(signals_->run(), [this](std::exception_ptr thrown) { on_signals_end(std::move(thrown)); });
  tasks_.start(service_.retry(), cancelled);
  tasks_.start(service_.keep_alive(), cancelled);
  if (options_.reap_orphans.value_or(::getpid() == 1)) tasks_.start(reap_orphans(), cancelled);
  lasting_.start(report_events(), [this](const std::exception_ptr&) {
    if (control_) control_->stop();
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
  if (control_ && event.what == cluster_event::kind::upgraded) control_->stop();  // it is the successor's now
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
  control_.emplace(primary_, options_.control_socket, service_.environment());
  lasting_.start(control_->run(), say_broken);
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

COHORT_INLINE void served_primary::report(const std::string& what) {
  note(cluster_event(cluster_event::kind::failed, 0, 0, what));
}

COHORT_INLINE void served_primary::look_for_control() {
  if (!control_) return;
  try {
    control_->look();
  } catch (...) {
    say_broken(std::current_exception());
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
