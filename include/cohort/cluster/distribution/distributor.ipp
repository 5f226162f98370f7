// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "distributor.hpp"

#include <chrono>

#include "../../core/config.hpp"

#include "../../core/asio_error.hpp"

namespace cohort {

COHORT_INLINE asio::awaitable<void> distributor::last_call() {
  asio::steady_timer pause(co_await asio::this_coro::executor, std::chrono::milliseconds(100));
  co_await pause.async_wait(detail::awaited);
}

}  // namespace cohort
