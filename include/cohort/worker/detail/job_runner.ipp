// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "job_runner.hpp"

#include "../../core/config.hpp"

#include <exception>

#include <fmt/format.h>

#include "../../core/error.hpp"
#include "../../core/scope.hpp"
#include "../../core/text_of.hpp"

namespace cohort::detail {

COHORT_INLINE asio::awaitable<worker_protocol::job_result> job_runner::run(std::string schedule) {
  worker_protocol::job_result result;
  result.refused = declines_;
  if (result.refused) co_return result;
  const auto found = jobs_.find(schedule);
  if (found == jobs_.end() || !found->second) {
    throw_error(fmt::format("schedule \"{}\": no such job in worker_options::jobs", schedule), errc::invalid_option);
  }
  const on_exit last([this] { ended_(); });
  const counted one(running_);
  try {
    co_await found->second(self_);
  } catch (...) {
    result.what = text_of(std::current_exception());
  }
  co_return result;
}

}  // namespace cohort::detail
