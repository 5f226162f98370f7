// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "options.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <utility>

#include "../core/config.hpp"
#include "../core/processors.hpp"

namespace cohort {

COHORT_INLINE unsigned cluster_options::worker_count() const noexcept {
  if (workers != 0) return workers;
  return usable_processors();
}

COHORT_INLINE worker_options cluster_options::worker_with_jobs() const {
  worker_options result = worker;
  for (const auto& each : schedules) result.jobs.try_emplace(each.when.name(), each.job);
  return result;
}

namespace detail {

COHORT_INLINE cluster_options normalized(cluster_options options) {
  constexpr std::chrono::milliseconds shortest_ping{1};
  options.worker.drain_timeout = std::min(options.worker.drain_timeout, longest_time);
  for (auto& each : options.agents) each.drain_timeout = std::min(each.drain_timeout, longest_time);
  options.lame_duck = std::min(options.lame_duck, longest_time);
  options.start_timeout = std::min(options.start_timeout, longest_time);
  options.hang_timeout = std::min(options.hang_timeout, longest_time);
  options.limits.introduction_timeout = std::min(options.limits.introduction_timeout, longest_time);
  options.limits.max_introductions = std::max<std::size_t>(options.limits.max_introductions, 1);
  if (options.hang_timeout.count() != 0) {
    const auto longest_ping = std::max(options.hang_timeout / 4, shortest_ping);
    options.ping_interval = std::clamp(options.ping_interval, shortest_ping, longest_ping);
  }
  return options;
}

}  // namespace detail

}  // namespace cohort
