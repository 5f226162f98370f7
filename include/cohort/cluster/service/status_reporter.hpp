// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <sys/types.h>

#include <fmt/format.h>

#include "../../core/asio.hpp"
#include "../../core/event.hpp"
#include "../events.hpp"
#include "sd_notify.hpp"

namespace cohort {

/// Tells a service manager how a cluster does: ready when all workers have been at one time, stopping, a status of one
/// line, and at half of its interval that the primary is alive.
///
/// What the manager does not take, because it has much to do or is restarted, is told again 250 ms later. The first
/// failure of another kind is said on stderr. Distinct objects: safe. Shared objects: unsafe.
class status_reporter {
 public:
  /// `workers`: how many there are to be.
  status_reporter(const asio::any_io_executor& executor, sd_notifier manager, std::size_t workers)
      : manager_(std::move(manager)), unsent_(executor), wanted_(workers) {}

  /// See sd_notifier::environment().
  const std::vector<std::pair<std::string, std::string>>& environment() const noexcept {
    return manager_.environment();
  }

  /// Takes note of what has happened, and tells it.
  void note(const cluster_event& event) {
    if (!manager_) return;
    using kind = cluster_event::kind;
    switch (event.what) {
      case kind::ready:
        if (!event.agent.empty()) return;
        serving_[event.slot] = event.pid;
        break;
      case kind::draining:
      case kind::exited:
        if (!event.agent.empty()) return;
        forget(event);
        break;
      case kind::not_restarted:
        if (event.agent.empty()) --wanted_;
        trouble_ = to_string(event);
        break;
      case kind::failed:
      case kind::degraded:
      case kind::restarting: trouble_ = to_string(event); break;
      case kind::gave_up: gave_up_ = to_string(event); break;
      case kind::scaled: wanted_ = std::stoul(event.text); break;
      case kind::reloading:
        if (event.slot == 0 && was_ready_) reloading_due_ = true;
        break;
      case kind::reloaded:
      case kind::reload_failed:
        if (was_ready_ && stopping_.empty()) ready_due_ = true;
        if (event.what == kind::reload_failed) trouble_ = to_string(event);
        break;
      case kind::upgraded: successor_ = event.pid; break;
      case kind::stopping:
        if (successor_) return;  // it is not the service that stops
        stopping_ = to_string(event);
        stopping_due_ = true;
        break;
      default: return;
    }
    if (serving_.size() >= wanted_ && wanted_ > 0 && stopping_.empty()) {
      trouble_.clear();
      if (!std::exchange(was_ready_, true)) ready_due_ = true;
    }
    tell();
  }

  /// Tells again what could not be told, until it is cancelled.
  asio::awaitable<void> retry() {
    asio::steady_timer pause(unsent_.get_executor());
    for (;;) {
      co_await unsent_.wait();
      pause.expires_after(std::chrono::milliseconds(250));
      co_await pause.async_wait(asio::use_awaitable);
      tell();
    }
  }

  /// Tells that the loop which this runs on turns, until it is cancelled.
  asio::awaitable<void> keep_alive() {
    const auto interval = manager_.watchdog_interval();
    if (!manager_ || !interval) co_return;
    asio::steady_timer timer(unsent_.get_executor());
    for (;;) {
      watchdog_due_ = true;
      tell();
      timer.expires_after(*interval / 2);
      co_await timer.async_wait(asio::use_awaitable);
    }
  }

 private:
  void forget(const cluster_event& event) {
    const auto at = serving_.find(event.slot);
    if (at != serving_.end() && at->second == event.pid) serving_.erase(at);  // not a successor that serves already
  }

  std::string status() const {
    if (!gave_up_.empty()) return gave_up_;
    if (!stopping_.empty()) return stopping_;
    return fmt::format("{} of {} workers serve{}{}", serving_.size(), wanted_, trouble_.empty() ? "" : "; ", trouble_);
  }

  void tell() {
    try {
      if (watchdog_due_) manager_.watchdog();
      watchdog_due_ = false;
      if (reloading_due_) manager_.reloading();
      reloading_due_ = false;
      if (ready_due_) manager_.ready();
      ready_due_ = false;
      if (successor_) {
        if (!std::exchange(replaced_, true)) manager_.main_pid(*successor_);
        return;
      }
      if (stopping_due_) manager_.stopping();
      stopping_due_ = false;
      std::string text = status();
      if (text != told_) manager_.status(text);
      told_ = std::move(text);
      unsent_.reset();
    } catch (const std::system_error& error) {
      const bool busy = error.code() == std::error_code(EAGAIN, std::system_category());
      if (!busy && !std::exchange(complained_, true)) std::fprintf(stderr, "%s\n", error.what());
      unsent_.set();
    }
  }

  sd_notifier manager_;
  event unsent_;
  std::map<unsigned, pid_t> serving_;  // by slot
  std::size_t wanted_;
  std::string trouble_, gave_up_, stopping_, told_;
  std::optional<pid_t> successor_;
  bool replaced_ = false;
  bool was_ready_ = false, complained_ = false;
  bool reloading_due_ = false, ready_due_ = false, stopping_due_ = false, watchdog_due_ = false;
};

}  // namespace cohort
