// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include <fmt/format.h>

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
  asio::awaitable<worker_protocol::job_result> run(std::string schedule) {
    worker_protocol::job_result result;
    result.refused = declines_;
    if (result.refused) co_return result;
    const auto found = jobs_.find(schedule);
    if (found == jobs_.end() || !found->second) {
      throw_error(fmt::format("schedule \"{}\": no such job in worker_options::jobs", schedule), errc::invalid_option);
    }
    const counted until_the_end(*this);
    try {
      co_await found->second(self_);
    } catch (const std::exception& error) {
      result.what = error.what();
    } catch (...) {
      result.what = "an exception that is no std::exception";
    }
    co_return result;
  }

 private:
  struct counted {
    explicit counted(job_runner& o) : owner(o) { ++owner.running_; }
    counted(const counted&) = delete;
    ~counted() {
      --owner.running_;
      owner.ended_();
    }
    job_runner& owner;
  };

  worker& self_;
  std::map<std::string, job> jobs_;
  std::function<void()> ended_;
  std::size_t running_ = 0;
  bool declines_ = false;
};

}  // namespace cohort
