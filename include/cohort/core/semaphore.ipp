// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "semaphore.hpp"

#include "config.hpp"

namespace cohort {

COHORT_INLINE asio::awaitable<void> semaphore::acquire() {
  if (try_acquire()) co_return;
  if (closed_) throw_error("semaphore: acquire", errc::closed);
  waiter mine(*this);
  co_await mine.woken.wait();
  if (mine.queued) throw_error("semaphore: acquire", errc::closed);
  mine.has_permit = false;  // the caller's now
  --coming_;
  hand_out();
}

COHORT_INLINE bool semaphore::try_acquire() noexcept {
  if (closed_ || available_ == 0 || coming_ != 0) return false;
  --available_;
  return true;
}

COHORT_INLINE void semaphore::release() {
  ++available_;
  hand_out();
}

COHORT_INLINE void semaphore::close() {
  closed_ = true;
  for (waiter* each : waiting_) each->woken.set();
}

COHORT_INLINE semaphore::waiter::~waiter() {
  if (queued) owner.waiting_.erase(place);
  if (!has_permit) return;  // else it was cancelled in the moment in which it got one
  --owner.coming_;
  owner.release();
}

COHORT_INLINE void semaphore::hand_out() {
  while (available_ != 0 && !waiting_.empty() && !closed_) {
    waiter& next = *waiting_.front();
    waiting_.pop_front();
    --available_;
    ++coming_;
    next.queued = false;
    next.has_permit = true;
    next.woken.set();
  }
}

}  // namespace cohort
