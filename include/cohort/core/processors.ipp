// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "processors.hpp"

#include "config.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include <sched.h>

namespace cohort {
namespace detail {

/// `cpu.max` of one group: `max 100000`, or `150000 100000`.
COHORT_INLINE std::optional<double> quota_of(const std::string& group) {
  std::ifstream file(group + "/cpu.max");
  double quota = 0, period = 0;
  if (file >> quota >> period && quota > 0 && period > 0) return quota / period;
  std::ifstream old_quota(group + "/cpu.cfs_quota_us"), old_period(group + "/cpu.cfs_period_us");
  if (old_quota >> quota && old_period >> period && quota > 0 && period > 0) return quota / period;
  return std::nullopt;
}

COHORT_INLINE std::optional<double> processor_quota(const std::string& root) {
  std::optional<double> least;
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // ID:CONTROLLERS:PATH, cgroups(7)
    std::istringstream fields(line);
    std::string id, controllers, path;
    if (!std::getline(fields, id, ':') || !std::getline(fields, controllers, ':')) continue;
    std::getline(fields, path);
    const bool has_time = ("," + controllers + ",").find(",cpu,") != std::string::npos;
    if (!controllers.empty() && !has_time) continue;
    const std::string mount = root + (controllers.empty() ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu");
    // A group cannot use more than the one that it is in. In a container the path may be the host's, and only the
    // mount's own root be there.
    for (std::string each = path == "/" ? "" : path;; each.resize(each.rfind('/'))) {
      if (const auto quota = quota_of(mount + each)) least = std::min(*quota, least.value_or(*quota));
      if (each.empty() || each.rfind('/') == std::string::npos) break;
    }
  }
  return least;
}

/// The affinity mask, however many processors the kernel knows.
COHORT_INLINE unsigned processors_in_mask() {
  for (std::size_t most = 1024; most <= 64 * 1024; most *= 4) {
    std::vector<unsigned long> mask(most / (8 * sizeof(unsigned long)));
    auto* const set = reinterpret_cast<cpu_set_t*>(mask.data());
    const std::size_t size = most / 8;
    if (::sched_getaffinity(0, size, set) == 0) return static_cast<unsigned>(CPU_COUNT_S(size, set));
  }
  return std::thread::hardware_concurrency();
}

}  // namespace detail

COHORT_INLINE unsigned usable_processors() {
  unsigned result = detail::processors_in_mask();
  if (const auto quota = detail::processor_quota()) {
    result = std::min(result, static_cast<unsigned>(std::ceil(std::min(*quota, 1e6))));
  }
  return std::max(result, 1u);
}

}  // namespace cohort
