// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <deque>
#include <exception>
#include <memory>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>
#include <variant>

#include "../core/asio.hpp"
#include "../core/event.hpp"
#include "../core/strand.hpp"
#include "../core/task_group.hpp"
#include "detail/pool_state.hpp"
#include "job.hpp"
#include "protocol.hpp"

namespace cohort {

/// One of the jobs of process_pool::as_completed(), which has ended.
///
/// Distinct objects: safe. Shared objects: unsafe.
template <pool_job Job>
class completion {
 public:
  explicit completion(std::size_t index) : index_(index) {}

  /// The place of its argument in the range, from 0.
  std::size_t index() const noexcept { return index_; }

  /// Why there is no result; null if there is one.
  const std::exception_ptr& failure() const noexcept { return failure_; }

  /// The result, to be taken once; throws the failure if there is none.
  typename Job::result get() {
    if (failure_) std::rethrow_exception(failure_);
    if constexpr (!std::is_void_v<typename Job::result>) return std::move(result_);
  }

 private:
  template <pool_job, class>
  friend class completions;

  std::size_t index_;
  std::exception_ptr failure_;
  std::conditional_t<std::is_void_v<typename Job::result>, std::monostate, typename Job::result> result_{};
};

/// Jobs under way, in the order in which they end:
///
///     auto jobs = pool.as_completed(numbers);
///     while (auto done = co_await jobs.next()) fmt::print("{}: {}\n", numbers[done->index()], done->get());
///
/// Begins with the first next(). Takes no more from its range than the pool can run and keep waiting (see
/// pool_options::queue), ended jobs that next() has not returned yet among them. Destroying it kills the processes that
/// run a job of it.
///
/// Distinct objects: safe. Shared objects: unsafe. One next() at a time. The range is read on the pool's strand. A
/// range that is an lvalue must outlive it.
template <pool_job Job, class View>
class completions {
 public:
  completions(completions&&) noexcept = default;
  completions& operator=(completions&&) = delete;

  ~completions() {
    if (shared_) asio::dispatch(shared_->pool->get_executor(), [shared = shared_] { shared->running.cancel(); });
  }

  /// The next job that has ended; empty when all of them were returned.
  ///
  /// A job that has failed is a value, see completion::failure. Throws what the range throws; those that were taken
  /// from it before can still be waited for. Cancelling throws operation_aborted and loses nothing.
  asio::awaitable<std::optional<completion<Job>>> next() {
    return detail::run_on(shared_->pool->get_executor(), next(shared_));
  }

 private:
  template <pool_job>
  friend class process_pool;

  using state_ptr = std::shared_ptr<pool::detail::pool_state<Job>>;

  struct shared {
    shared(state_ptr in, View over)
        : pool(std::move(in)), range(std::move(over)), running(pool->get_executor()), changed(pool->get_executor()) {}

    state_ptr pool;
    View range;
    std::optional<std::ranges::iterator_t<View>> at;
    bool exhausted = false;
    std::size_t taken = 0;
    task_group running;
    std::deque<completion<Job>> ended;
    event changed;
  };
  using shared_ptr = std::shared_ptr<shared>;

  completions(state_ptr pool, View range) : shared_(std::make_shared<shared>(std::move(pool), std::move(range))) {}

  static asio::awaitable<std::optional<completion<Job>>> next(shared_ptr self) {
    take_more(self);
    while (self->ended.empty() && self->running.size() != 0) co_await self->changed.wait();
    std::optional<completion<Job>> result;
    if (!self->ended.empty()) {
      result.emplace(std::move(self->ended.front()));
      self->ended.pop_front();
    }
    co_return result;
  }

  static void take_more(const shared_ptr& self) {
    const std::size_t most = self->pool->options.process_count() + self->pool->options.queue;
    while (!self->exhausted && self->running.size() + self->ended.size() < most) {
      self->exhausted = true;  // if it throws
      if (self->at) {
        ++*self->at;
      } else {
        self->at.emplace(std::ranges::begin(self->range));
      }
      if (*self->at == std::ranges::end(self->range)) return;
      start(self, typename Job::argument(**self->at));
      self->exhausted = false;
    }
  }

  static void start(const shared_ptr& self, typename Job::argument argument) {
    pool::order<Job> work{std::move(argument)};
    // The group is held by the handler, not by the coroutine: it must be there when the coroutine is gone.
    self->running.start(run(*self, self->taken++, std::move(work)),
                        [self](std::exception_ptr) { self->changed.notify(); });
  }

  static asio::awaitable<void> run(shared& self, std::size_t index, pool::order<Job> work) {
    completion<Job> done(index);
    try {
      auto running = pool::detail::pool_state<Job>::run(self.pool, std::move(work), pool::detail::ignore_progress());
      if constexpr (std::is_void_v<typename Job::result>) {
        co_await std::move(running);
      } else {
        done.result_ = co_await std::move(running);
      }
    } catch (...) {
      done.failure_ = std::current_exception();
    }
    self.ended.push_back(std::move(done));
  }

  shared_ptr shared_;
};

}  // namespace cohort
