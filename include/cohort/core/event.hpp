// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <utility>

#include "asio.hpp"

namespace cohort {

/// A flag that coroutines wait for.
///
/// Once set it stays set, and every wait returns at once, until reset(). set() resumes nobody inside the call: waiters
/// continue on the executor in a later turn of its loop, even when reset() comes before that turn.
///
/// Distinct objects: safe. Shared objects: unsafe: on executors of several threads, those who share it run on one
/// strand, which is its executor. Must outlive the operations that wait for it.
class event {
 public:
  explicit event(asio::any_io_executor executor) : timer_(std::move(executor), never()) {}

  asio::any_io_executor get_executor() { return timer_.get_executor(); }

  bool is_set() const noexcept { return set_; }

  void set();

  void reset() noexcept { set_ = false; }

  /// Wakes those who wait now, without setting the flag: each of their waits returns once.
  void notify() { ++notified_, timer_.cancel(); }

  /// Waits until the event is set or notified; returns without suspending when it is set.
  ///
  /// Cancelling throws operation_aborted and changes nothing. Any number of coroutines may wait.
  asio::awaitable<void> wait();

 private:
  static asio::steady_timer::time_point never() noexcept { return asio::steady_timer::time_point::max(); }

  // A timer, not a list of handlers: what still waits when the execution context goes away is destroyed with it.
  asio::steady_timer timer_;
  unsigned notified_ = 0;
  bool set_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "event.ipp"
#endif
