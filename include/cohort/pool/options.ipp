// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "options.hpp"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "../core/config.hpp"

namespace cohort {

COHORT_INLINE unsigned pool_options::process_count() const noexcept {
  if (processes != 0) return processes;
  const unsigned processors = std::thread::hardware_concurrency();
  return processors != 0 ? processors : 1;
}

namespace detail {

COHORT_INLINE pool_options normalized(pool_options options) {
  // As good as for ever, and no overflow when a timer counts it in nanoseconds.
  constexpr std::chrono::milliseconds longest = std::chrono::hours(24 * 365);
  if (options.deadline) options.deadline = std::min(*options.deadline, longest);
  options.start_timeout = std::min(options.start_timeout, longest);
  constexpr std::chrono::milliseconds none{0};  // what is far below it overflows as well
  if (options.deadline) options.deadline = std::max(*options.deadline, none);
  options.start_timeout = std::max(options.start_timeout, none);
  return options;
}

}  // namespace detail

}  // namespace cohort
