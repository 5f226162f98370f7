// SPDX-License-Identifier: BSL-1.0
/// A number of permits that coroutines of one strand take and give back.
#pragma once

#include <cstddef>
#include <utility>

#include "asio.hpp"
#include "wait_queue.hpp"

namespace cohort {

/// A number of permits, which coroutines take, in the order in which they asked, and give back.
///
/// Unlike a queue it wakes one waiter for each permit, however many there are.
///
/// Distinct objects: safe. Shared objects: unsafe: on executors of several threads its executor is a strand, and those
/// who share it run there. Must outlive the operations that wait on it.
class semaphore {
 public:
  semaphore(asio::any_io_executor executor, std::size_t permits) : queue_(std::move(executor), permits) {}

  semaphore(const semaphore&) = delete;
  semaphore& operator=(const semaphore&) = delete;

  asio::any_io_executor get_executor() const { return queue_.get_executor(); }

  /// Permits that nobody holds.
  std::size_t available() const noexcept { return queue_.available(); }

  /// Coroutines that wait for a permit.
  std::size_t waiting() const noexcept { return queue_.waiting(); }

  /// Takes a permit. Does not suspend if one is there and nobody waits for it.
  ///
  /// Throws errc::closed after close(). Cancelling throws operation_aborted and takes none.
  asio::awaitable<void> acquire();

  /// Takes a permit if one is there that nobody waits for. False also while a coroutine that has been given a permit
  /// has yet to continue: one that asks later would be ahead of it.
  bool try_acquire() noexcept;

  /// Gives a permit back: to the coroutine that has waited longest, which continues in a later turn of the loop.
  void release() { queue_.release(); }

  /// Lets nobody have a permit any more: coroutines that wait throw errc::closed.
  void close();

 private:
  detail::wait_queue queue_;
  bool closed_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "semaphore.ipp"
#endif
