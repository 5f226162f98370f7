// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>
#include <vector>

#include "../../core/asio.hpp"
#include "../../schedule/schedule.hpp"
#include "worker_set.hpp"

namespace cohort {

/// Where the schedules of a cluster are run: its workers and agents. A schedule_host, see run_schedules().
///
/// Distinct objects: safe. Shared objects: unsafe.
class schedule_executor {
 public:
  /// `ended` hears of each run.
  schedule_executor(const worker_set& workers, const worker_set& agents,
                    std::function<void(const schedule_result&)> ended);

  std::vector<unsigned> workers() const;
  asio::awaitable<void> perform(const schedule& what, unsigned slot);
  void ended(const schedule_result& result) { ended_(result); }

 private:
  const worker_set& workers_;
  const worker_set& agents_;
  std::function<void(const schedule_result&)> ended_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "schedule_executor.ipp"
#endif
