// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <list>
#include <memory>

#include "asio.hpp"
#include "event.hpp"

namespace cohort {

/// In place of a function that hears how a coroutine has ended: its failure is not looked at, and why not.
///
///     tasks.start(primary.reload(), ignored("what comes of it is an event"));
class ignored {
 public:
  explicit constexpr ignored(const char* /*why*/) noexcept {}
  void operator()(const std::exception_ptr&) const noexcept {}
};

/// Coroutines that run beside their owner: how many there are, their failures, their cancellation and their end.
///
/// An owner cancels the group and waits until it is empty before it goes, so that nothing is left that uses it. The
/// group must outlive its coroutines. Distinct objects: safe. Shared objects: unsafe: on executors of several threads
/// the group's executor is a strand, and its owner runs there too.
class task_group {
 public:
  explicit task_group(const asio::any_io_executor& executor) : emptied_(executor) {}

  task_group(const task_group&) = delete;
  task_group& operator=(const task_group&) = delete;

  asio::any_io_executor get_executor() { return emptied_.get_executor(); }

  /// Coroutines that have not ended.
  std::size_t size() const noexcept { return running_.size(); }

  /// Runs `work` on the executor, where it begins at once when this is called there. When it has ended,
  /// `ended(failure)` is called there, in a later turn even if `work` does not suspend.
  ///
  /// Returns what cancels this one alone, for as long as it runs. Throws std::bad_alloc; then `ended` is not called.
  std::weak_ptr<asio::cancellation_signal> start(asio::awaitable<void> work,
                                                 std::function<void(std::exception_ptr)> ended);

  /// The same for a coroutine whose failure is the group's: the first one cancels all others, and wait_empty() throws
  /// it. A coroutine that ends with operation_aborted was cancelled, and has not failed.
  std::weak_ptr<asio::cancellation_signal> start(asio::awaitable<void> work);

  /// Cancels what runs now: the operation that each is waiting for ends with operation_aborted.
  void cancel();

  /// Waits until none runs, and throws what a coroutine of the group has failed with, once. Cancelling throws
  /// operation_aborted and changes nothing.
  asio::awaitable<void> wait_empty();

  /// Cancels what runs and waits until it has ended; what it failed with is dropped. For the end of an owner, whose
  /// coroutines use it. A coroutine that may have been cancelled itself disables that first, or it would not wait:
  ///
  ///     co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
  ///     co_await tasks.cancel_and_wait();
  asio::awaitable<void> cancel_and_wait();

 private:
  asio::awaitable<void> until_empty();
  void finish(std::list<std::shared_ptr<asio::cancellation_signal>>::iterator which);

  event emptied_;
  std::list<std::shared_ptr<asio::cancellation_signal>> running_;
  std::list<std::shared_ptr<asio::cancellation_signal>> ended_;  // for which there was no memory for another turn
  std::exception_ptr failure_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "task_group.ipp"
#endif
