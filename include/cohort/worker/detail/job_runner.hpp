// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "../../core/asio.hpp"
#include "../../core/error.hpp"
#include "../protocol.hpp"

namespace cohort {

class worker;

/// Does the jobs of schedules in a worker, when the primary says that it is time.
///
/// Distinct objects: safe. Shared objects: unsafe. Must outlive the runs.
class job_runner {
 public:
  using job = std::function<asio::awaitable<void>(worker&)>;

  /// `ended()` is called after each run.
  job_runner(worker& self, std::map<std::string, job> jobs, std::function<void()> ended)
      : self_(self), jobs_(std::move(jobs)), ended_(std::move(ended)) {}

  job_runner(const job_runner&) = delete;
  job_runner& operator=(const job_runner&) = delete;

  std::size_t running() const noexcept { return running_; }

  /// Refuses all runs from now on; those under way go on.
  void decline() noexcept { declines_ = true; }

  /// Runs the job of a schedule to its end. Throws errc::invalid_option if there is none.
  asio::awaitable<worker_protocol::job_result> run(std::string schedule);

 private:
  struct counted {
    explicit counted(job_runner& o) : owner(o) { ++owner.running_; }
    counted(const counted&) = delete;
    ~counted();
    job_runner& owner;
  };

  worker& self_;
  std::map<std::string, job> jobs_;
  std::function<void()> ended_;
  std::size_t running_ = 0;
  bool declines_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "job_runner.ipp"
#endif
