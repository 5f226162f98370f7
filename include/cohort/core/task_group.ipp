// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "task_group.hpp"

#include "config.hpp"

#include <new>
#include <system_error>
#include <utility>

#include "asio_error.hpp"

namespace cohort {

COHORT_INLINE std::weak_ptr<asio::cancellation_signal> task_group::start(
    asio::awaitable<void> work, std::function<void(std::exception_ptr)> ended) {
  // One type of handler for all, because each costs the compiler a co_spawn of its own.
  const auto self = running_.insert(running_.end(), std::make_shared<asio::cancellation_signal>());
  const auto signal = *self;
  try {
    asio::co_spawn(get_executor(), std::move(work),
                   asio::bind_cancellation_slot(
                       signal->slot(), [this, self, ended = std::move(ended)](std::exception_ptr failure) mutable {
                         finish(self);
                         ended(std::move(failure));
                       }));
  } catch (...) {  // there was no memory for it, so it will not be heard of again
    finish(self);
    throw;
  }
  return signal;
}

COHORT_INLINE std::weak_ptr<asio::cancellation_signal> task_group::start(asio::awaitable<void> work) {
  return start(std::move(work), [this](const std::exception_ptr& failure) {
    if (!failure || failure_) return;
    const auto error = detail::system_error_in(failure);
    if (error && error->code() == operation_aborted()) return;
    failure_ = failure;
    cancel();
  });
}

COHORT_INLINE void task_group::finish(std::list<std::shared_ptr<asio::cancellation_signal>>::iterator which) {
  // Kept for another turn: Asio's bookkeeping of the coroutine stands in the signal, and is still in use here.
  const auto signal = *which;
  try {
    asio::post(get_executor(), [signal] {});
    running_.erase(which);
  } catch (const std::bad_alloc&) {
    ended_.splice(ended_.end(), running_, which);
  }
  if (running_.empty()) emptied_.notify();
}

COHORT_INLINE void task_group::cancel() {
  // One may end inside emit and leave the list.
  for (auto at = running_.begin(); at != running_.end();) {
    const auto signal = *at++;
    signal->emit(asio::cancellation_type::terminal);
  }
}

COHORT_INLINE asio::awaitable<void> task_group::wait_empty() {
  co_await until_empty();
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

COHORT_INLINE asio::awaitable<void> task_group::cancel_and_wait() {
  cancel();
  co_await until_empty();
  failure_ = nullptr;
}

COHORT_INLINE asio::awaitable<void> task_group::until_empty() {
  // Whoever waits here goes when this returns, and with it what the coroutines use: without memory to wait for them,
  // there is nothing else to go on with.
  for (int tries = 0; !running_.empty();) {
    try {
      co_await emptied_.wait();
    } catch (const std::bad_alloc&) {
      if (++tries == 100) std::terminate();
    }
  }
}

}  // namespace cohort
