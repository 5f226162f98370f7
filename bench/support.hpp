// SPDX-License-Identifier: BSL-1.0
/// What the benchmarks share. Every figure is printed beside the raw system calls for the same job in the same run.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <sched.h>

namespace cohort::bench {

using clock = std::chrono::steady_clock;

/// In microseconds.
inline double elapsed(clock::time_point since) {
  return std::chrono::duration<double, std::micro>(clock::now() - since).count();
}

/// The middle value, which an odd slow run does not move; 0 of none.
inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Keeps this process, and the children that it starts from now on, on one processor. False if that is not possible.
inline bool pin(unsigned processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  return ::sched_setaffinity(0, sizeof set, &set) == 0;
}

/// Runs each job once per round, in turn, every other round backwards, so that none of them always comes first or after
/// the same other one. A job returns its figure; the median of each is returned, in the order of the jobs.
template <class Job>
std::vector<double> alternate(std::size_t rounds, const std::vector<Job>& jobs) {
  std::vector<std::vector<double>> figures(jobs.size());
  for (std::size_t round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      const auto job = round % 2 == 0 ? i : jobs.size() - 1 - i;
      figures[job].push_back(jobs[job]());
    }
  }
  std::vector<double> medians;
  for (auto& figure : figures) medians.push_back(median(std::move(figure)));
  return medians;
}

/// `spawn, loop held, 1 GiB parent: 41 µs, raw 34 µs, ratio 1.21`
inline void report(const std::string& what, double value, const std::string& other, double reference,
                   const std::string& unit) {
  fmt::print("{}: {:.1f} {}, {} {:.1f} {}, ratio {:.2f}\n", what, value, unit, other, reference, unit,
             value / reference);
}

}  // namespace cohort::bench
