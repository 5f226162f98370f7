// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "wait_queue.hpp"

#include "config.hpp"

#include "event.hpp"

namespace cohort::detail {

struct wait_queue::waiter {
  explicit waiter(wait_queue& queue)
      : owner(queue), over(queue.executor_), place(queue.waiting_.insert(queue.waiting_.end(), this)) {}
  waiter(const waiter&) = delete;
  waiter& operator=(const waiter&) = delete;

  ~waiter() {
    if (queued) owner.waiting_.erase(place);
    if (!has_permit) return;  // else it was cancelled in the moment in which it got one
    --owner.coming_;
    owner.release();
  }

  void end(bool with_permit) {
    owner.waiting_.erase(place);
    queued = false;
    has_permit = with_permit;
    over.set();
  }

  wait_queue& owner;
  event over;
  std::list<waiter*>::iterator place;
  bool queued = true;
  bool has_permit = false;
};

COHORT_INLINE bool wait_queue::try_acquire() noexcept {
  if (available_ == 0 || coming_ != 0) return false;
  --available_;
  return true;
}

COHORT_INLINE asio::awaitable<bool> wait_queue::acquire() {
  if (try_acquire()) co_return true;
  waiter mine(*this);
  co_await mine.over.wait();
  if (!mine.has_permit) co_return false;
  mine.has_permit = false;  // the caller's now
  --coming_;
  hand_out();
  co_return true;
}

COHORT_INLINE void wait_queue::release() {
  ++available_;
  hand_out();
}

COHORT_INLINE void wait_queue::refuse_oldest() {
  if (!waiting_.empty()) waiting_.front()->end(false);
}

COHORT_INLINE void wait_queue::refuse_all() {
  while (!waiting_.empty()) waiting_.front()->end(false);
}

COHORT_INLINE void wait_queue::hand_out() {
  while (available_ != 0 && !waiting_.empty()) {
    --available_;
    ++coming_;
    waiting_.front()->end(true);
  }
}

}  // namespace cohort::detail
