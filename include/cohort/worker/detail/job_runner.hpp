// SPDX-License-Identifier: BSL-1.0
/// Does the jobs of schedules in a worker, when the primary says that it is time.
///
/// The worker owns it. Jobs run on the worker's executor.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "../../core/asio.hpp"
#include "../protocol.hpp"
#include "../worker_function.hpp"

namespace cohort {

class worker;

namespace detail {

/// Distinct objects: safe. Shared objects: unsafe. Must outlive the runs, and `jobs` must outlive it.
class job_runner {
 public:
  using job_map = std::map<std::string, worker_function>;

  /// `ended()` is called after each run.
  job_runner(worker& self, const job_map& jobs, std::function<void()> ended)
      : self_(self), jobs_(jobs), ended_(std::move(ended)) {}

  job_runner(const job_runner&) = delete;
  job_runner& operator=(const job_runner&) = delete;

  std::size_t running() const noexcept { return running_; }

  /// Refuses all runs from now on; those under way go on.
  void decline() noexcept { declines_ = true; }

  /// Runs the job of a schedule to its end. Throws errc::invalid_option if there is none.
  asio::awaitable<worker_protocol::job_result> run(std::string schedule);

 private:
  worker& self_;
  const job_map& jobs_;
  std::function<void()> ended_;
  std::size_t running_ = 0;
  bool declines_ = false;
};

}  // namespace detail
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "job_runner.ipp"
#endif
