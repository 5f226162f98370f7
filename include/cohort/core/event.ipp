// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "event.hpp"

#include "config.hpp"

#include <system_error>

#include "asio_error.hpp"

namespace cohort {

COHORT_INLINE void event::set() {
  if (set_) return;
  set_ = true;
  notify();
}

COHORT_INLINE asio::awaitable<void> event::wait() {
  const auto before = notified_;
  while (!set_ && notified_ == before) {
    // before the wait, because a coroutine that was cancelled earlier is not told again
    const auto state = co_await asio::this_coro::cancellation_state;
    if (state.cancelled() != asio::cancellation_type::none) throw std::system_error(operation_aborted());
    detail::asio_error ignored;  // a timer that never expires can only be cancelled: by notify(), or with the coroutine
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

}  // namespace cohort
