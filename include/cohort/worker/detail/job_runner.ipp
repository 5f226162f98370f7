// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "job_runner.hpp"

#include "../../core/config.hpp"

#include <exception>

#include <fmt/format.h>

namespace cohort {

COHORT_INLINE asio::awaitable<worker_protocol::job_result> job_runner::run(std::string schedule) {
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

COHORT_INLINE job_runner::counted::~counted() {
  --owner.running_;
  owner.ended_();
}

}  // namespace cohort
