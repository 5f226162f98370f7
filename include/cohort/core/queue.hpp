// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

#include "asio.hpp"
#include "error.hpp"
#include "event.hpp"

namespace cohort {

/// A bounded first-in first-out queue between coroutines of one strand.
///
/// Distinct objects: safe. Shared objects: unsafe: on executors of several threads its executor is a strand, and those
/// who share it run there. Must outlive the operations that wait on it.
template <class T>
class queue {
 public:
  /// `capacity` is in items; at least 1.
  queue(asio::any_io_executor executor, std::size_t capacity)
      : changed_(std::move(executor)), capacity_(capacity == 0 ? 1 : capacity) {}

  std::size_t size() const noexcept { return items_.size(); }
  std::size_t capacity() const noexcept { return capacity_; }
  bool is_closed() const noexcept { return closed_; }

  /// Puts an item in; false when the queue is full or closed, and the item is then untouched.
  template <class U>
  bool try_push(U&& item) {
    if (closed_ || items_.size() >= capacity_) return false;
    items_.push_back(std::forward<U>(item));
    changed_.notify();
    return true;
  }

  /// Takes the oldest item, if there is one.
  std::optional<T> try_pop() {
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    changed_.notify();
    return item;
  }

  /// Puts an item in, waiting while the queue is full.
  ///
  /// Throws errc::closed when the queue is closed before there is room. Cancelling throws operation_aborted, and the
  /// item is not in the queue.
  asio::awaitable<void> push(T item) {
    while (!try_push(std::move(item))) {
      if (closed_) throw_error("queue: push", errc::closed);
      co_await changed_.wait();
    }
  }

  /// Takes the oldest item, waiting for one; empty when the queue is closed and all items have been taken.
  ///
  /// Does not suspend when an item is there. Cancelling throws operation_aborted and takes nothing.
  asio::awaitable<std::optional<T>> pop() {
    while (items_.empty() && !closed_) co_await changed_.wait();
    co_return try_pop();
  }

  /// Refuses further items. What is in the queue can still be taken.
  void close() {
    closed_ = true;
    changed_.notify();
  }

 private:
  std::deque<T> items_;
  event changed_;
  std::size_t capacity_;
  bool closed_ = false;
};

}  // namespace cohort
