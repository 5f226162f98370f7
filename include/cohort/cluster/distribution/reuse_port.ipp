// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "reuse_port.hpp"

#include <algorithm>
#include <chrono>

#include "../../core/config.hpp"
#include "../../net/acceptor.hpp"

namespace cohort {

COHORT_INLINE reuse_port_distributor::reuse_port_distributor(const asio::any_io_executor& executor,
                                                             std::vector<descriptor> sockets, std::uint32_t number,
                                                             std::function<descriptor()> open, queue_owner owner)
    : distributor(owner), grants_(executor, number), open_(std::move(open)) {
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
    grants_.tasks().start(last_call());
  }
  co_await grants_.finish();
  if (owner_ == queue_owner::others) {
    for (const auto& each : entries_) {
      if (each->holder) grants_.take_back(each->holder, each->grant);
    }
  }
  entries_.clear();
}

COHORT_INLINE void reuse_port_distributor::add(descriptor socket) {
  const auto slot = static_cast<std::uint32_t>(entries_.size() + 1);
  entries_.push_back(std::make_unique<socket_entry>(std::move(socket), slot));
}

COHORT_INLINE worker_ptr reuse_port_distributor::wanted(const socket_entry& at) {
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
  at.grant = grants_.give(to, at.socket, limit, [this, &at, from, old](bool granted) {
    at.moving = false;
    if (granted && at.holder) {
      if (from) grants_.take_back(from, old);  // only now: somebody accepts there all the time
    } else {
      at.holder = from;
      at.grant = old;
    }
    if (at.holder && std::find(joined_.begin(), joined_.end(), at.holder) == joined_.end()) at.holder = nullptr;
    settle();
  });
}

}  // namespace cohort
