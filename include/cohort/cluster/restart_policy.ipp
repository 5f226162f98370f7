// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "restart_policy.hpp"

#include "../core/config.hpp"

#include <algorithm>

namespace cohort {

COHORT_INLINE restart_policy restart_policy::never() {
  restart_policy result;
  result.replaces = false;
  result.on_give_up = give_up_action::degrade;
  return result;
}

COHORT_INLINE void restart_policy::note_ready(history& past) const {
  past.ever_ready = true;
  if (min_uptime.count() <= 0) past.failed_boots = 0;
}

COHORT_INLINE std::optional<restart_policy::duration> restart_policy::next(history& past, clock::time_point now,
                                                                           std::optional<duration> served,
                                                                           double random) const {
  if (!replaces) return std::nullopt;
  while (!past.restarts.empty() && now - past.restarts.front() >= window) past.restarts.pop_front();
  if (!served || *served < min_uptime) {
    if (++past.failed_boots >= max_failed_boots) return std::nullopt;
  } else {
    past.failed_boots = 0;
  }
  if (past.restarts.size() < max_restarts) {
    past.restarts.push_back(now);
    past.backoffs = 0;
    return duration(0);
  }
  if (!past.ever_ready) return std::nullopt;
  duration pause = min_backoff;
  for (std::size_t i = 0; i < past.backoffs && pause < max_backoff; ++i) pause *= 2;
  pause = std::min(pause, max_backoff);
  ++past.backoffs;
  past.restarts.push_back(now);
  past.restarts.pop_front();
  return pause - std::chrono::duration_cast<duration>(pause * (jitter * random));
}

}  // namespace cohort
