// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <list>
#include <utility>

#include "asio.hpp"
#include "error.hpp"
#include "event.hpp"

namespace cohort {

/// A number of permits, which coroutines take, in the order in which they asked, and give back.
///
/// Unlike a queue it wakes one waiter for each permit, however many there are.
///
/// Distinct objects: safe. Shared objects: unsafe. Must outlive the operations that wait on it.
class semaphore {
 public:
  semaphore(asio::any_io_executor executor, std::size_t permits)
      : executor_(std::move(executor)), available_(permits) {}

  semaphore(const semaphore&) = delete;
  semaphore& operator=(const semaphore&) = delete;

  asio::any_io_executor get_executor() { return executor_; }

  /// Permits that nobody holds.
  std::size_t available() const noexcept { return available_; }

  /// Coroutines that wait for a permit.
  std::size_t waiting() const noexcept { return waiting_.size(); }

  /// Takes a permit. Does not suspend if one is there and nobody waits for it.
  ///
  /// Throws errc::closed after close(). Cancelling throws operation_aborted and takes none.
  asio::awaitable<void> acquire();

  /// Takes a permit if one is there that nobody waits for. Not while somebody who has been given one has yet to
  /// continue: who asks later would be ahead of him.
  bool try_acquire() noexcept;

  /// Gives a permit back: to who has waited longest, which continues in a later turn of the loop.
  void release();

  /// Lets nobody have a permit any more: those who wait throw errc::closed.
  void close();

 private:
  struct waiter {
    explicit waiter(semaphore& semaphore)
        : owner(semaphore), woken(owner.executor_), place(owner.waiting_.insert(owner.waiting_.end(), this)) {}
    waiter(const waiter&) = delete;

    ~waiter();

    semaphore& owner;
    event woken;
    std::list<waiter*>::iterator place;
    bool queued = true;
    bool has_permit = false;
  };

  void hand_out();

  asio::any_io_executor executor_;
  std::size_t available_;
  std::list<waiter*> waiting_;  // none while a permit is there, unless somebody comes for his
  std::size_t coming_ = 0;      // who have been given a permit and have not continued yet
  bool closed_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "semaphore.ipp"
#endif
