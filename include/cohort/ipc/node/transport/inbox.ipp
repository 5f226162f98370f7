// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "inbox.hpp"

#include "../../../core/config.hpp"

#include <utility>

namespace cohort::detail {

inline constexpr std::size_t node_item_size = 128;

COHORT_INLINE void node_inbox::put(node_message message, std::size_t size, bool internal) {
  size += node_item_size;
  bytes_ += size;
  const bool with_handle = static_cast<bool>(message.handle);
  if (with_handle) ++handles_;
  auto& queue = internal ? internal_ : with_handle ? with_handle_ : plain_;
  queue.push_back({std::move(message), nullptr, size, number_++});
}

COHORT_INLINE void node_inbox::put(std::exception_ptr failure) {
  bytes_ += node_item_size;
  plain_.push_back({{}, std::move(failure), node_item_size, number_++});
}

COHORT_INLINE bool node_inbox::has(wanted which) const noexcept {
  switch (which) {
    case wanted::any: return !plain_.empty() || !with_handle_.empty();
    case wanted::plain: return !plain_.empty();
    case wanted::handle: return !with_handle_.empty();
    case wanted::internal: return !internal_.empty();
  }
  return false;
}

COHORT_INLINE std::deque<node_inbox::item>& node_inbox::queue_for(wanted which) noexcept {
  if (which == wanted::internal) return internal_;
  if (which == wanted::plain || with_handle_.empty()) return plain_;
  if (which == wanted::handle || plain_.empty()) return with_handle_;
  return plain_.front().number < with_handle_.front().number ? plain_ : with_handle_;
}

COHORT_INLINE node_message node_inbox::take(wanted which) {
  auto& queue = queue_for(which);
  item taken = std::move(queue.front());
  queue.pop_front();
  bytes_ -= taken.size;
  if (taken.message.handle) --handles_;
  if (taken.failure) std::rethrow_exception(taken.failure);
  return std::move(taken.message);
}

COHORT_INLINE void node_inbox::clear() {
  plain_.clear();
  with_handle_.clear();
  internal_.clear();
  bytes_ = handles_ = 0;
}

}  // namespace cohort::detail
