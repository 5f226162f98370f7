// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "worker_set.hpp"

#include <algorithm>

#include "../../core/config.hpp"

namespace cohort {

COHORT_INLINE std::size_t worker_set::count_in(worker_state state) const noexcept {
  return static_cast<std::size_t>(
      std::count_if(all_.begin(), all_.end(), [state](const auto& each) { return each->state() == state; }));
}

COHORT_INLINE std::size_t worker_set::serving() const noexcept {
  return static_cast<std::size_t>(
      std::count_if(all_.begin(), all_.end(), [](const auto& each) { return each->is_serving(); }));
}

COHORT_INLINE worker_ptr worker_set::serving_in(unsigned slot) const {
  for (const auto& each : all_) {
    if (each->number() == slot && each->is_serving()) return each;
  }
  return nullptr;
}

COHORT_INLINE worker_ptr worker_set::ready_agent(const std::string& name) const {
  for (const auto& each : all_) {
    if (each->state() == worker_state::ready && (name.empty() || each->agent == name)) return each;
  }
  return nullptr;
}

}  // namespace cohort
