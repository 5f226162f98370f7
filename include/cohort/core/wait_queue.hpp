// SPDX-License-Identifier: BSL-1.0
/// A fair line in front of a number of permits: what `semaphore` and `delivery_queue` have in common.
///
/// Its owner is the object that hands out the permits. Waiters continue on the executor, in a later turn of the loop.
#pragma once

#include <cstddef>
#include <list>
#include <utility>

#include "asio.hpp"

namespace cohort::detail {

/// Permits, and the coroutines that wait for them, in the order in which they came.
///
/// A waiter that is given a permit continues only in a later turn of the loop. Until then nobody else may take a
/// permit, although some may be free: he would be ahead of one who came earlier.
///
/// Distinct objects: safe. Shared objects: unsafe. Must outlive the operations that wait on it.
class wait_queue {
 public:
  wait_queue(asio::any_io_executor executor, std::size_t permits)
      : executor_(std::move(executor)), available_(permits) {}

  wait_queue(const wait_queue&) = delete;
  wait_queue& operator=(const wait_queue&) = delete;

  asio::any_io_executor get_executor() const { return executor_; }

  /// Permits that nobody holds.
  std::size_t available() const noexcept { return available_; }

  /// Coroutines that wait for a permit.
  std::size_t waiting() const noexcept { return waiting_.size(); }

  /// Takes a permit if one is free and nobody is ahead.
  bool try_acquire() noexcept;

  /// Waits for a permit. False if the wait was refused. Cancelling throws operation_aborted and takes none.
  asio::awaitable<bool> acquire();

  /// Gives a permit back: to the waiter that has waited longest.
  void release();

  /// Ends the wait of the one that has waited longest, if there is one, without a permit.
  void refuse_oldest();

  /// Ends all waits without a permit.
  void refuse_all();

 private:
  struct waiter;

  void hand_out();

  asio::any_io_executor executor_;
  std::size_t available_;
  std::list<waiter*> waiting_;
  std::size_t coming_ = 0;  // waiters that have been given a permit and have not continued yet
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "wait_queue.ipp"
#endif
