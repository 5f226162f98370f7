// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "shared_listener.hpp"

#include <chrono>
#include <utility>

#include "../../core/config.hpp"
#include "../../net/acceptor.hpp"

namespace cohort {

COHORT_INLINE shared_distributor::shared_distributor(const asio::any_io_executor& executor, descriptor socket,
                                                     std::uint32_t number, queue_owner owner)
    : distributor(owner), grants_(executor, number), socket_(std::move(socket)) {}

COHORT_INLINE std::vector<int> shared_distributor::sockets() const {
  return std::vector<int>(socket_ ? 1 : 0, socket_.get());
}

COHORT_INLINE asio::awaitable<void> shared_distributor::stop() {
  // Closed here first, so that the last worker that empties the queue closes the listener with it.
  stopping_ = true;
  if (owner_ == queue_owner::cluster) {
    stop_handshakes(socket_.get());
    grants_.tasks().start(last_call());
  }
  co_await grants_.finish();
  if (owner_ == queue_owner::others) {
    for (const auto& [who, grant] : joined_) grants_.take_back(who, grant);
  }
  socket_.reset();
}

COHORT_INLINE void shared_distributor::give(const worker_ptr& who) {
  if (stopping_) return;
  joined_[who] = grants_.give(who, socket_, std::chrono::hours(24), [this, who](bool granted) {
    // Not for want of a descriptor alone should a worker stay idle.
    if (granted || stopping_ || joined_.erase(who) == 0) return;
    give(who);
  });
}

}  // namespace cohort
