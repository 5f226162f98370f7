// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "worker_process.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <cassert>

#include <signal.h>

namespace cohort {

COHORT_INLINE std::string_view to_string(worker_state state) noexcept {
  switch (state) {
    case worker_state::waiting: return "waiting";
    case worker_state::starting: return "starting";
    case worker_state::ready: return "ready";
    case worker_state::draining: return "draining";
    case worker_state::stopping: return "stopping";
    case worker_state::dead: return "dead";
  }
  return "unknown";
}

COHORT_INLINE member worker_process::as_member() const {
  member who;
  who.slot = number_;
  who.pid = peer.pid();
  who.agent = agent;
  return who;
}

COHORT_INLINE void worker_process::enter(worker_state next) {
  assert(may_follow(state_, next));
  state_ = next;
  if (next == worker_state::starting) started_ = clock::now();
  if (next == worker_state::ready) ready_since = clock::now();
  deadline_.cancel();
}

COHORT_INLINE void worker_process::limit_state(std::chrono::milliseconds limit) {
  deadline_.expires_after(limit);
  deadline_.async_wait([self = shared_from_this(), expected = state_](std::error_code error) {
    if (error || self->state_ != expected) return;
    self->timed_out = true;
    self->kill();
  });
}

COHORT_INLINE void worker_process::kill() {
  killed = true;
  signal(SIGKILL);
}

COHORT_INLINE void worker_process::signal(int signal_number) {
  try {
    if (peer.process()) peer.signal(signal_number);
  } catch (const std::system_error&) {
    // It has become another user's, and is beyond our reach.
  }
}

COHORT_INLINE asio::awaitable<void> worker_process::wait(std::chrono::milliseconds pause) {
  deadline_.expires_after(pause);
  std::error_code ignored;
  co_await deadline_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

COHORT_INLINE std::minstd_rand& worker_process::randomness() {
  static thread_local std::minstd_rand generator{std::random_device{}()};
  return generator;
}

COHORT_INLINE std::ptrdiff_t count_in(const std::vector<std::shared_ptr<worker_process>>& workers, worker_state state) {
  return std::count_if(workers.begin(), workers.end(), [&](const auto& each) { return each->state() == state; });
}

COHORT_INLINE bool all_ready(const std::vector<std::shared_ptr<worker_process>>& workers) {
  return count_in(workers, worker_state::ready) == static_cast<std::ptrdiff_t>(workers.size());
}

}  // namespace cohort
