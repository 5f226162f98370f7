// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/error.hpp"
#include "../../schedule/schedule.hpp"
#include "worker_process.hpp"

namespace cohort {

/// Where the schedules of a cluster are run: its workers and agents.
///
/// Distinct objects: safe. Shared objects: unsafe.
class schedule_executor {
 public:
  using worker_ptr = std::shared_ptr<worker_process>;

  /// `ended(const schedule_result&)` hears of each run.
  schedule_executor(const std::vector<worker_ptr>& workers, const std::vector<worker_ptr>& agents,
                        std::function<void(const schedule_result&)> ended)
      : workers_(workers), agents_(agents), ended_(std::move(ended)) {}

  std::vector<unsigned> workers() const;

  asio::awaitable<void> perform(const schedule& what, unsigned slot);

  void ended(const schedule_result& result) { ended_(result); }

 private:
  worker_ptr find_worker(unsigned slot) const;

  worker_ptr find_agent(const std::string& name) const;

  const std::vector<worker_ptr>& workers_;
  const std::vector<worker_ptr>& agents_;
  std::function<void(const schedule_result&)> ended_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "schedule_executor.ipp"
#endif
