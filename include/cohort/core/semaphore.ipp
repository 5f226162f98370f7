// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "semaphore.hpp"

#include "config.hpp"

#include "error.hpp"

namespace cohort {

COHORT_INLINE asio::awaitable<void> semaphore::acquire() {
  bool acquired = try_acquire();
  if (!acquired && !closed_) acquired = co_await queue_.acquire();
  if (!acquired) throw_error("semaphore: acquire", errc::closed);
}

COHORT_INLINE bool semaphore::try_acquire() noexcept { return !closed_ && queue_.try_acquire(); }

COHORT_INLINE void semaphore::close() {
  closed_ = true;
  queue_.refuse_all();
}

}  // namespace cohort
