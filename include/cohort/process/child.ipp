// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "child.hpp"

#include "../core/config.hpp"

#include <system_error>

#include "../core/asio_error.hpp"
#include "../core/timeout.hpp"

namespace cohort {

COHORT_INLINE child& child::operator=(child&& other) noexcept {
  if (this != &other) {
    abandon();
    state_ = std::move(other.state_);
    in_ = std::move(other.in_);
    out_ = std::move(other.out_);
    err_ = std::move(other.err_);
  }
  return *this;
}

COHORT_INLINE asio::awaitable<exit_status> child::closed() {
  const auto state = state_;
  co_await detail::child_state::wait_ended(state);
  co_await hung_up(out_);
  co_await hung_up(err_);
  co_return co_await detail::child_state::wait(state);
}

COHORT_INLINE bool child::signal(int number) {
  if (!state_) throw_error("child: signal", errc::no_child);
  return state_->signal(number);
}

COHORT_INLINE bool child::kill_tree(int number) {
  if (!state_) throw_error("child: kill_tree", errc::no_child);
  return state_->signal_tree(number);
}

COHORT_INLINE asio::awaitable<void> child::hung_up(read_pipe& pipe) {
  if (!pipe.is_open()) co_return;
  try {
    co_await pipe.closed();
  } catch (...) {
    detail::caught();
    if (pipe.is_open()) throw;
  }
}

COHORT_INLINE asio::awaitable<exit_status> child::stop(std::shared_ptr<detail::child_state> state, stop_policy policy) {
  if (!state) throw_error("child: stop", errc::no_child);
  for (const auto& step : policy.steps()) {
    if (state->gone()) break;
    state->signal(step.signal);
    if (step.grace == stop_policy::forever) co_return co_await detail::child_state::wait(state);
    try {
      co_return co_await with_timeout(detail::child_state::wait(state), step.grace);
    } catch (...) {
      const auto error = detail::caught();
      if (error.code() != errc::timed_out) throw;
    }
  }
  state->signal(SIGKILL);
  co_return co_await detail::child_state::wait(std::move(state));
}

COHORT_INLINE void child::abandon() noexcept {
  if (state_) detail::child_state::abandon(std::move(state_));
}

}  // namespace cohort
