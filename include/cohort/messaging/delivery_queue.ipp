// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "delivery_queue.hpp"

#include "../core/config.hpp"

#include <algorithm>

namespace cohort {

COHORT_INLINE delivery_queue::delivery_queue(const asio::any_io_executor& executor, const delivery_options& options)
    : executor_(executor), options_(options) {
  options_.in_flight = std::max<std::size_t>(options_.in_flight, 1);
  options_.queue = std::max<std::size_t>(options_.queue, 1);
}

COHORT_INLINE delivery_queue::queue_place::~queue_place() {
  if (queued) owner.waiting_.erase(place);
  if (!granted) return;  // else it was cancelled in the moment in which it came
  --owner.coming_;
  owner.pass_on();
}

COHORT_INLINE void delivery_queue::queue_place::refuse(undelivered reason) {
  owner.waiting_.erase(place);
  queued = false;
  why = reason;
  come.set();
}

COHORT_INLINE void delivery_queue::pass_on() {
  --in_flight_;
  grant();
}

COHORT_INLINE void delivery_queue::grant() {
  while (in_flight_ < options_.in_flight && !waiting_.empty()) {
    queue_place& next = *waiting_.front();
    waiting_.pop_front();
    ++in_flight_;
    ++coming_;
    next.queued = false;
    next.granted = true;
    next.come.set();
  }
}

COHORT_INLINE bool delivery_queue::make_room() {
  if (options_.slow == slow_receiver::block) return false;
  if (options_.slow == slow_receiver::drop_oldest) {
    if (!waiting_.empty()) waiting_.front()->refuse(undelivered::dropped);
    return false;
  }
  closed_ = true;
  while (!waiting_.empty()) waiting_.front()->refuse(undelivered::slow);
  return true;
}

}  // namespace cohort
