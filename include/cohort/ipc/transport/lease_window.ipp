// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "lease_window.hpp"

#include "../../core/config.hpp"

namespace cohort::detail {

COHORT_INLINE lease_window::lease::lease(lease_window& in, event& e) : window(in), changed(e), id(++in.last_) {
  window.given_.emplace(id, this);
}

COHORT_INLINE lease_window::lease::~lease() {
  window.given_.erase(id);
  window.admit_next();
}

COHORT_INLINE asio::awaitable<void> lease_window::wait_room(asio::any_io_executor executor,
                                                            std::function<void()> check) {
  event mine(executor);
  const place waits(*this, mine);
  while (!waits.has_come()) {
    check();
    co_await mine.wait();
  }
}

COHORT_INLINE void lease_window::settle(std::uint64_t id, state answer, wire::refusal reason, outbox::ticket begun) {
  const auto at = given_.find(id);
  if (at == given_.end()) {
    if (id == 0 || id > last_) malformed("answer to a handle that was not sent");
    return;  // it was cancelled here
  }
  lease& given = *at->second;
  // Believed too early, its owner would close a descriptor that is still to be sent: another one by then, perhaps.
  if (given.sent > begun) malformed("answer to a handle that was not sent");
  if (given.state != state::pending) malformed("second answer to a handle");
  given.state = answer;
  given.reason = reason;
  given.changed.notify();
}

COHORT_INLINE void lease_window::fail(outbox::ticket sent, int error) {
  for (const auto& each : given_) {
    if (each.second->sent != sent) continue;
    each.second->error = error;
    each.second->changed.notify();
  }
}

COHORT_INLINE void lease_window::wake_all() {
  for (const auto& each : given_) each.second->changed.notify();
  for (event* each : queue_) each->notify();
}

COHORT_INLINE lease_window::place::~place() {
  std::erase(window.queue_, mine);
  window.admit_next();
}

COHORT_INLINE void lease_window::admit_next() {
  if (!queue_.empty() && given_.size() < size_) queue_.front()->notify();
}

}  // namespace cohort::detail
