// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "fifo.hpp"

namespace cohort::detail {

/// A queue of items whose numbers rise, from whose middle an item is removed by its number. That takes logarithmic time
/// and does not move the other items each time, however many wait and whoever chooses the numbers.
///
/// Distinct objects: safe. Shared objects: unsafe.
template <class T>
class numbered_fifo {
 public:
  bool empty() const noexcept { return size_ == 0; }
  std::size_t size() const noexcept { return size_; }

  /// The first item. There must be one.
  T& front() noexcept { return entries_.front().item; }

  /// The item that was added last, which must still be here.
  T& back() noexcept { return entries_.back().item; }

  /// `number` must be above those of all items that have been here.
  void push_back(std::uint64_t number, T&& item) {
    entries_.emplace_back(entry{number, true, std::move(item)});
    ++size_;
  }

  void pop_front() {
    entries_.pop_front();
    --size_;
    skip_removed();
  }

  /// The item with this number; null if it is not here.
  T* find(std::uint64_t number) noexcept {
    entry* const at = find_entry(number);
    return at == nullptr ? nullptr : &at->item;
  }

  /// Removes the item with this number, which must be here.
  void remove(std::uint64_t number) {
    entry& at = *find_entry(number);
    at.item = T();
    at.here = false;
    --size_;
    skip_removed();
    // Not each time, which would move all items for each that is removed; and often enough that no gaps pile up.
    if (entries_.size() > 2 * size_ + 64) {
      entries_.erase_if([](const entry& each) { return !each.here; });
    }
  }

  /// Calls `f` with each item, in order.
  template <class F>
  void for_each(F&& f) {
    for (entry& each : entries_) {
      if (each.here) f(each.item);
    }
  }

 private:
  struct entry {
    std::uint64_t number = 0;
    bool here = false;
    T item{};
  };

  entry* find_entry(std::uint64_t number) noexcept {
    const auto at = std::lower_bound(entries_.begin(), entries_.end(), number,
                                     [](const entry& each, std::uint64_t wanted) { return each.number < wanted; });
    return at == entries_.end() || at->number != number || !at->here ? nullptr : &*at;
  }

  void skip_removed() {
    while (!entries_.empty() && !entries_.front().here) entries_.pop_front();
  }

  fifo<entry> entries_;  // the first one is here
  std::size_t size_ = 0;
};

}  // namespace cohort::detail
