// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "signals.hpp"

#include <algorithm>
#include <cstdio>
#include <exception>

#include <string.h>

#include <fmt/format.h>

#include "../../core/config.hpp"

namespace cohort::detail {

COHORT_INLINE asio::awaitable<void> reload_primary(cluster& primary, std::string why) {
  co_await primary.reload(std::move(why));
}

COHORT_INLINE asio::awaitable<void> upgrade_primary(cluster& primary,
                                                    std::vector<std::pair<std::string, std::string>> environment) {
  co_await primary.upgrade(std::move(environment));
}

/// Has one worker more or less; what keeps it from that is said on stderr.
COHORT_INLINE void scale_by(cluster& primary, int difference) {
  const auto wanted = static_cast<int>(primary.size()) + difference;
  try {
    primary.scale(static_cast<unsigned>(std::max(wanted, 1)));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "scale to %d: %s\n", wanted, error.what());
  }
}

COHORT_INLINE asio::awaitable<void> handle_signals(cluster& primary, std::map<int, cluster_action> actions,
                                                   std::vector<std::pair<std::string, std::string>> environment,
                                                   task_group& tasks) {
  constexpr ignored told("what comes of it is an event");
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
      case cluster_action::reload: tasks.start(reload_primary(primary, name), told); break;
      case cluster_action::upgrade: tasks.start(upgrade_primary(primary, environment), told); break;
      case cluster_action::scale_up: scale_by(primary, 1); break;
      case cluster_action::scale_down: scale_by(primary, -1); break;
      case cluster_action::reopen: primary.reopen(); break;
    }
  }
}

}  // namespace cohort::detail
