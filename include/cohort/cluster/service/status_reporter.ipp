// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "status_reporter.hpp"

#include "../../core/asio_error.hpp"
#include "../../core/config.hpp"
#include "../../core/error_log.hpp"

#include <cerrno>
#include <chrono>
#include <system_error>

#include <fmt/format.h>

namespace cohort {

COHORT_INLINE const std::vector<std::pair<std::string, std::string>>& status_reporter::environment() const noexcept {
  return manager_.environment();
}

COHORT_INLINE void status_reporter::note(const cluster_event& event) {
  if (!manager_) return;
  using kind = cluster_event::kind;
  switch (event.what) {
    case kind::started:
      if (was_ready_ || limits_.boot.count() == 0) return;
      due_.patience = limits_.boot;
      break;
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
    case kind::degraded: trouble_ = to_string(event); break;
    case kind::restarting:
      trouble_ = to_string(event);
      if (!was_ready_ && limits_.boot.count() != 0) due_.patience = limits_.boot + event.after;
      break;
    case kind::gave_up: gave_up_ = to_string(event); break;
    case kind::scaled: wanted_ = std::stoul(event.text); break;
    case kind::reloading:
      if (event.slot == 0 && was_ready_) due_.reloading = true;
      break;
    case kind::reloaded:
    case kind::reload_failed:
      if (was_ready_ && stopping_.empty()) due_.ready = true;
      if (event.what == kind::reload_failed) trouble_ = to_string(event);
      break;
    case kind::upgraded: successor_ = event.pid; break;
    case kind::stopping:
      if (successor_) return;  // it is not the service that stops
      stopping_ = to_string(event);
      due_.stopping = true;
      due_.patience = limits_.stop;
      break;
    default: return;
  }
  if (serving_.size() >= wanted_ && wanted_ > 0 && stopping_.empty()) {
    trouble_.clear();
    if (!std::exchange(was_ready_, true)) due_.ready = true;
  }
  tell();
}

COHORT_INLINE asio::awaitable<void> status_reporter::retry() {
  asio::steady_timer pause(unsent_.get_executor());
  for (;;) {
    co_await unsent_.wait();
    pause.expires_after(std::chrono::milliseconds(250));
    co_await pause.async_wait(detail::awaited);
    tell();
  }
}

COHORT_INLINE asio::awaitable<void> status_reporter::keep_alive() {
  const auto interval = manager_.watchdog_interval();
  if (!manager_ || !interval) co_return;
  asio::steady_timer timer(unsent_.get_executor());
  for (;;) {
    due_.watchdog = true;
    tell();
    timer.expires_after(*interval / 2);
    co_await timer.async_wait(detail::awaited);
  }
}

COHORT_INLINE void status_reporter::forget(const cluster_event& event) {
  const auto at = serving_.find(event.slot);
  if (at != serving_.end() && at->second == event.pid) serving_.erase(at);  // not a successor that serves already
}

COHORT_INLINE std::string status_reporter::status() const {
  if (!gave_up_.empty()) return gave_up_;
  if (!stopping_.empty()) return stopping_;
  return fmt::format("{} of {} workers serve{}{}", serving_.size(), wanted_, trouble_.empty() ? "" : "; ", trouble_);
}

COHORT_INLINE void status_reporter::tell() {
  try {
    if (due_.watchdog) manager_.watchdog();
    due_.watchdog = false;
    if (due_.reloading) manager_.reloading();
    due_.reloading = false;
    if (due_.ready) manager_.ready();
    due_.ready = false;
    if (successor_) {
      if (!std::exchange(replaced_, true)) manager_.main_pid(*successor_);
      return;
    }
    if (due_.stopping) manager_.stopping();
    due_.stopping = false;
    if (due_.patience.count() > 0) manager_.extend_timeout(due_.patience);
    due_.patience = std::chrono::microseconds(0);
    std::string text = status();
    if (text != told_) manager_.status(text);
    told_ = std::move(text);
    unsent_.reset();
  } catch (const std::system_error& error) {
    const bool busy = error.code() == std::error_code(EAGAIN, std::system_category());
    if (!busy && !std::exchange(complained_, true)) error_log::write(error.what());
    unsent_.set();
  }
}

}  // namespace cohort
