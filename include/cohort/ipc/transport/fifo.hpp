// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace cohort::detail {

/// A queue in one piece of memory, which it keeps: it allocates nothing once it has been as long as it gets, where a
/// std::deque that never holds more than one element allocates again and again. What is added may move the others.
///
/// Distinct objects: safe. Shared objects: unsafe.
template <class T>
class fifo {
 public:
  using iterator = typename std::vector<T>::iterator;

  bool empty() const noexcept { return first_ == items_.size(); }
  std::size_t size() const noexcept { return items_.size() - first_; }
  T& front() noexcept { return items_[first_]; }
  T& back() noexcept { return items_.back(); }
  iterator begin() noexcept { return items_.begin() + static_cast<std::ptrdiff_t>(first_); }
  iterator end() noexcept { return items_.end(); }

  template <class... Arguments>
  T& emplace_back(Arguments&&... arguments) {
    return items_.emplace_back(std::forward<Arguments>(arguments)...);
  }
  void push_back(T item) { items_.push_back(std::move(item)); }

  void pop_front() {
    if (size() == 1) {
      items_.clear();
      first_ = 0;
      return;
    }
    std::destroy_at(&front());
    std::construct_at(&front());
    ++first_;
    if (first_ >= 1024 && first_ * 2 >= items_.size()) {
      items_.erase(items_.begin(), begin());
      first_ = 0;
    }
  }

  /// Inserts an item in front of `at`.
  void insert(iterator at, T item) { items_.insert(at, std::move(item)); }

  template <class Predicate>
  void erase_if(Predicate predicate) {
    items_.erase(std::remove_if(begin(), end(), predicate), end());
    if (!empty()) return;
    items_.clear();
    first_ = 0;
  }

 private:
  std::vector<T> items_;
  std::size_t first_ = 0;  // those before have been taken
};

}  // namespace cohort::detail
