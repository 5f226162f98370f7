// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "runner.hpp"

#include "../core/config.hpp"

#include "../core/asio_error.hpp"

namespace cohort {

COHORT_INLINE asio::awaitable<void> wall_clock::sleep_until(schedule::time_point time) const {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  timer.expires_after(
      std::clamp<schedule::time_point::duration>(time - now(), std::chrono::seconds(0), std::chrono::minutes(1)));
  co_await timer.async_wait(detail::awaited);
}

}  // namespace cohort
