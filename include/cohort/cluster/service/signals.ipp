// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "signals.hpp"

#include <algorithm>
#include <exception>

#include <signal.h>
#include <string.h>

#include <fmt/format.h>

#include "../../core/asio_error.hpp"
#include "../../core/config.hpp"
#include "../../core/text_of.hpp"

namespace cohort::detail {

COHORT_INLINE std::string signal_name(int number) {
  if (number >= SIGRTMIN && number <= SIGRTMAX) return fmt::format("SIGRTMIN+{}", number - SIGRTMIN);
  const char* const name = ::sigabbrev_np(number);
  return name != nullptr ? fmt::format("SIG{}", name) : fmt::format("signal {}", number);
}

COHORT_INLINE signal_actions::signal_actions(cluster& primary, const std::map<int, cluster_action>& actions,
                                             variables environment, task_group& tasks,
                                             std::function<void(const std::string&)> failed, std::function<void()> look)
    : primary_(primary),
      actions_(actions),
      environment_(std::move(environment)),
      tasks_(tasks),
      failed_(std::move(failed)),
      look_(std::move(look)) {}

COHORT_INLINE asio::awaitable<void> reload_primary(cluster& primary, std::string why) {
  co_await primary.reload(std::move(why));
}

COHORT_INLINE asio::awaitable<void> upgrade_primary(cluster& primary,
                                                    std::vector<std::pair<std::string, std::string>> environment) {
  co_await primary.upgrade(std::move(environment));
}

COHORT_INLINE asio::awaitable<void> signal_actions::run() {
  asio::signal_set signals(primary_.get_executor());
  sigset_t handled;
  sigemptyset(&handled);
  for (const auto& [number, action] : actions_) {
    if (action == cluster_action::none) continue;
    signals.add(number);
    sigaddset(&handled, number);
  }
  ::pthread_sigmask(SIG_UNBLOCK, &handled, nullptr);
  for (;;) {
    const int number = co_await signals.async_wait(awaited);
    const std::string name = signal_name(number);
    try {
      act(actions_.at(number), name);
    } catch (...) {
      failed_(fmt::format("{}: {}", name, text_of(std::current_exception())));
    }
  }
}

COHORT_INLINE void signal_actions::act(cluster_action what, const std::string& name) {
  // One may be under way and another one wait; a third one would do what the second one does.
  constexpr std::size_t most = 2;
  switch (what) {
    case cluster_action::none: break;
    case cluster_action::stop: stop(name); break;
    case cluster_action::kill: primary_.kill(name); break;
    case cluster_action::reload:
      look_();
      if (reloads_ == most) break;
      ++reloads_;
      tasks_.start(reload_primary(primary_, name), [this](const std::exception_ptr&) { --reloads_; });
      break;
    case cluster_action::upgrade:
      if (upgrades_ == most) break;
      ++upgrades_;
      tasks_.start(upgrade_primary(primary_, environment_), [this](const std::exception_ptr&) { --upgrades_; });
      break;
    case cluster_action::scale_up: scale_by(1); break;
    case cluster_action::scale_down: scale_by(-1); break;
    case cluster_action::reopen:
      look_();
      primary_.reopen();
      break;
  }
}

COHORT_INLINE void signal_actions::stop(const std::string& name) {
  // A terminal's Ctrl-C reaches the whole group, and whoever started this program passes it on.
  constexpr std::chrono::seconds same_wish{1};
  const auto now = std::chrono::steady_clock::now();
  if (!stop_asked_) {
    stop_asked_ = now;
    primary_.stop(name);
  } else if (now - *stop_asked_ >= same_wish) {
    stop_asked_ = now;
    if (primary_.is_lame_duck()) {
      primary_.stop(name);  // cuts that short
    } else {
      primary_.kill(name);
    }
  }
}

COHORT_INLINE void signal_actions::scale_by(int difference) {
  const auto wanted = static_cast<int>(primary_.size()) + difference;
  primary_.scale(static_cast<unsigned>(std::max(wanted, 1)));
}

}  // namespace cohort::detail
