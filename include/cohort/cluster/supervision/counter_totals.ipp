// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "counter_totals.hpp"

#include <limits>

#include "../../core/config.hpp"
#include "../../worker/counter.hpp"

namespace cohort {

COHORT_INLINE bool counter_totals::take(said& before, std::string_view name, std::uint64_t value) {
  auto at = totals_.find(name);
  if (at == totals_.end()) {
    if (totals_.size() >= counter::most || !counter::is_name(name)) return false;
    at = totals_.emplace(name, total{totals_.size(), 0}).first;
  }
  auto& [number, sum] = at->second;
  if (before.size() <= number) before.resize(number + 1);
  auto& last = before[number];
  if (value < last || value - last > std::numeric_limits<std::uint64_t>::max() - sum) return false;
  sum += value - last;
  last = value;
  return true;
}

COHORT_INLINE std::map<std::string, std::uint64_t> counter_totals::all() const {
  std::map<std::string, std::uint64_t> result;
  for (const auto& [name, each] : totals_) result.emplace_hint(result.end(), name, each.value);
  return result;
}

}  // namespace cohort
