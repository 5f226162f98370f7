// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "drain.hpp"

#include "../../core/config.hpp"

#include <chrono>
#include <cmath>
#include <cstddef>
#include <system_error>

#include "../../core/asio_error.hpp"
#include "../../core/timeout.hpp"
#include "idle_connections.hpp"

namespace cohort::detail {

COHORT_INLINE asio::awaitable<void> give_a_second(task_group& tasks) {
  tasks.cancel();
  try {
    co_await with_timeout(tasks.wait_empty(), std::chrono::seconds(1));
  } catch (...) {
    caught();
    // Time is up.
  }
}

COHORT_INLINE int drain_sequence::rank(worker_exit status) noexcept {
  switch (status) {
    case worker_exit::fatal: return 3;
    case worker_exit::do_not_restart: return 2;
    case worker_exit::orphaned: return 1;
    default: return 0;
  }
}

COHORT_INLINE bool drain_sequence::begin(worker_exit why) {
  if (begun() && why == worker_exit::orphaned) return false;  // it was on its way out for another reason
  if (rank(why) > rank(status_)) status_ = why;
  if (begun()) return false;
  begun_.set();
  return true;
}

COHORT_INLINE asio::awaitable<void> drain_sequence::close_idle() {
  co_await begun_.wait();
  asio::steady_timer grace(get_executor(), options_.idle_grace);
  co_await grace.async_wait(awaited);
  const auto tell = [this](double part) { idle_.close(part); };
  co_await spread(tell);
  idle_.close_all();
}

COHORT_INLINE asio::awaitable<void> drain_sequence::ask_to_go() {
  co_await begun_.wait();
  const auto tell = [this](double part) {
    const auto due = std::ceil(static_cast<double>(turns_.waiting()) * part);
    for (auto left = static_cast<std::size_t>(due); left > 0; --left) turns_.refuse_oldest();
  };
  co_await spread(tell);
  ask_all_to_go();
}

COHORT_INLINE void drain_sequence::ask_all_to_go() {
  all_told_ = true;
  turns_.refuse_all();
}

COHORT_INLINE asio::awaitable<void> drain_sequence::wait_turn() {
  if (!all_told_) co_await turns_.acquire();
}

COHORT_INLINE asio::awaitable<void> drain_sequence::spread(std::function<void(double part)> tell) {
  constexpr std::chrono::milliseconds step{10};
  asio::steady_timer pause(get_executor());
  for (auto steps = options_.drain_spread / step; steps > 0; --steps) {
    tell(1 / static_cast<double>(steps));
    pause.expires_after(step);
    co_await pause.async_wait(awaited);
  }
}

COHORT_INLINE asio::awaitable<void> drain_sequence::finish(task_group& connections, std::function<bool()> is_idle) {
  if (is_idle()) co_return;
  try {
    co_await with_timeout(hurry_.wait(), options_.drain_timeout);
  } catch (...) {
    caught();
    // The deadline has passed.
  }
  if (is_idle()) co_return;
  idle_.close_all();
  ask_all_to_go();
  co_await give_a_second(connections);
}

}  // namespace cohort::detail
