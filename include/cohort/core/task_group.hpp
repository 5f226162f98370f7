// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <exception>
#include <list>
#include <memory>
#include <utility>

#include "asio.hpp"
#include "event.hpp"

namespace cohort {

/// Coroutines that run beside their owner: how many there are, their failures, their cancellation and their end.
///
/// An owner cancels the group and waits until it is empty before it goes, so that nothing is left that uses it. Must
/// outlive its coroutines. Distinct objects: safe. Shared objects: unsafe.
class task_group {
 public:
  explicit task_group(const asio::any_io_executor& executor) : emptied_(executor) {}

  task_group(const task_group&) = delete;
  task_group& operator=(const task_group&) = delete;

  asio::any_io_executor get_executor() { return emptied_.get_executor(); }

  /// Coroutines that have not ended.
  std::size_t size() const noexcept { return running_.size(); }

  /// Runs `work` on the executor, where it begins at once when this is called there. When it has ended,
  /// `ended(std::exception_ptr)` is called there, in a later turn even if `work` does not suspend.
  ///
  /// Returns what cancels this one alone, for as long as it runs.
  template <class Ended>
  std::weak_ptr<asio::cancellation_signal> start(asio::awaitable<void> work, Ended ended) {
    const auto self = running_.insert(running_.end(), std::make_shared<asio::cancellation_signal>());
    auto finish = [this, self, ended = std::move(ended)](std::exception_ptr failure) mutable {
      // Kept for another turn: Asio's bookkeeping of the coroutine stands in the signal, and is still in use here.
      asio::post(get_executor(), [signal = std::move(*self)] {});
      running_.erase(self);
      if (running_.empty()) emptied_.notify();
      ended(failure);
    };
    const auto signal = *self;
    asio::co_spawn(get_executor(), std::move(work), asio::bind_cancellation_slot(signal->slot(), std::move(finish)));
    return signal;
  }

  /// Cancels what runs now: the operation that each is waiting for ends with operation_aborted.
  void cancel() {
    // One may end inside emit and leave the list.
    for (auto at = running_.begin(); at != running_.end();) {
      const auto signal = *at++;
      signal->emit(asio::cancellation_type::terminal);
    }
  }

  /// Waits until none runs. Cancelling throws operation_aborted and changes nothing.
  asio::awaitable<void> wait_empty() {
    while (!running_.empty()) co_await emptied_.wait();
  }

 private:
  event emptied_;
  std::list<std::shared_ptr<asio::cancellation_signal>> running_;
};

}  // namespace cohort
