// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "reload.hpp"

#include "../core/config.hpp"

namespace cohort {

COHORT_INLINE const char* recycle_limits::reached(std::uint64_t connections, std::chrono::milliseconds age,
                                                  std::uint64_t memory, double fraction) const {
  const double part = 1 - jitter * fraction;
  const auto over = [part](auto value, auto limit) {
    return limit != 0 && static_cast<double>(value) >= static_cast<double>(limit) * part;
  };
  if (over(connections, max_connections)) return "its connections";
  if (over(age.count(), max_age.count())) return "its age";
  if (over(memory, max_memory)) return "its memory";
  return nullptr;
}

}  // namespace cohort
