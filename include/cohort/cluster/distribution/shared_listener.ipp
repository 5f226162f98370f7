// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "shared_listener.hpp"

#include "../../core/config.hpp"

#include <algorithm>

#include "../../net/acceptor.hpp"

namespace cohort {

COHORT_INLINE void granting_distributor::take_back(const worker_ptr& who, std::uint32_t grant) {
  worker_protocol::unlisten message;
  message.listener = number_;
  message.grant = grant;
  try {
    who->peer.post(message);
  } catch (const std::system_error&) {
    // It is gone, and its copy with it.
  }
}

COHORT_INLINE asio::awaitable<void> granting_distributor::finish_grants() {
  try {
    co_await with_timeout(tasks_.wait_empty(), std::chrono::seconds(1));
  } catch (const std::system_error&) {
    tasks_.cancel();
  }
  co_await tasks_.wait_empty();
}

COHORT_INLINE asio::awaitable<void> shared_distributor::stop() {
  // Closed here first, so that the last worker that empties the queue closes the listener with it.
  stopping_ = true;
  if (owner_ == queue_owner::cluster) {
    stop_handshakes(socket_.get());
    tasks_.start(last_call(), [](std::exception_ptr) {});
  }
  co_await finish_grants();
  if (owner_ == queue_owner::others) {
    for (const auto& [who, grant] : joined_) take_back(who, grant);
  }
  socket_.reset();
}

COHORT_INLINE void shared_distributor::give(const worker_ptr& who) {
  if (stopping_) return;
  joined_[who] = grant_to(who, socket_, std::chrono::hours(24), [this, who](bool granted) {
    // Not for want of a descriptor alone should a worker stay idle.
    if (granted || stopping_ || joined_.erase(who) == 0) return;
    give(who);
  });
}

COHORT_INLINE reuse_port_distributor::reuse_port_distributor(const asio::any_io_executor& executor,
                                                             std::vector<descriptor> sockets, std::uint32_t number,
                                                             std::function<descriptor()> open, queue_owner owner)
    : granting_distributor(executor, number, owner), open_(std::move(open)) {
  for (auto& socket : sockets) add(std::move(socket));
}

COHORT_INLINE void reuse_port_distributor::join(const worker_ptr& who) {
  joined_.push_back(who);
  settle();
}

COHORT_INLINE void reuse_port_distributor::leave(const worker_ptr& who) {
  std::erase(joined_, who);
  for (const auto& each : entries_) {
    if (each->holder == who) each->holder = nullptr;
  }
  settle();
}

COHORT_INLINE void reuse_port_distributor::resize(unsigned slots) {
  if (stopping_) return;
  std::vector<descriptor> sockets;
  while (open_ && entries_.size() + sockets.size() < slots) sockets.push_back(open_());
  for (auto& socket : sockets) add(std::move(socket));
  settle();
}

COHORT_INLINE std::vector<int> reuse_port_distributor::sockets() const {
  std::vector<int> result;
  for (const auto& each : entries_) result.push_back(each->socket.get());
  return result;
}

COHORT_INLINE asio::awaitable<void> reuse_port_distributor::stop() {
  stopping_ = true;
  if (owner_ == queue_owner::cluster) {
    for (const auto& each : entries_) stop_handshakes(each->socket.get());
    tasks_.start(last_call(), [](std::exception_ptr) {});
  }
  co_await finish_grants();
  if (owner_ == queue_owner::others) {
    for (const auto& each : entries_) {
      if (each->holder) take_back(each->holder, each->grant);
    }
  }
  entries_.clear();
}

COHORT_INLINE void reuse_port_distributor::add(descriptor socket) {
  const auto slot = static_cast<std::uint32_t>(entries_.size() + 1);
  entries_.push_back(std::make_unique<socket_entry>(std::move(socket), slot));
}

COHORT_INLINE reuse_port_distributor::worker_ptr reuse_port_distributor::wanted(const socket_entry& at) {
  for (const auto& each : joined_) {
    if (each->number() == at.slot) return each;
  }
  if (at.holder || joined_.empty()) return at.holder;
  return joined_[turn_++ % joined_.size()];
}

COHORT_INLINE void reuse_port_distributor::settle() {
  if (stopping_) return;
  for (const auto& each : entries_) {
    if (each->moving) continue;
    const worker_ptr to = wanted(*each);
    if (to && to != each->holder) move(*each, to);
  }
}

COHORT_INLINE void reuse_port_distributor::move(socket_entry& at, const worker_ptr& to) {
  const worker_ptr from = std::exchange(at.holder, to);
  const std::uint32_t old = at.grant;
  at.moving = true;
  // One that borrows and does not answer must not keep the listener from another one.
  const std::chrono::milliseconds limit = to->number() == at.slot ? std::chrono::hours(24) : std::chrono::seconds(1);
  at.grant = grant_to(to, at.socket, limit, [this, &at, from, old](bool granted) {
    at.moving = false;
    if (granted && at.holder) {
      if (from) take_back(from, old);  // only now: somebody accepts there all the time
    } else {
      at.holder = from;
      at.grant = old;
    }
    if (at.holder && std::find(joined_.begin(), joined_.end(), at.holder) == joined_.end()) at.holder = nullptr;
    settle();
  });
}

}  // namespace cohort
