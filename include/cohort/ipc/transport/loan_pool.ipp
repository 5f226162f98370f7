// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "loan_pool.hpp"

#include "../../core/config.hpp"

#include <algorithm>

#include "../../core/error.hpp"

namespace cohort::detail {

COHORT_INLINE loan_pool::loan_pool(std::size_t size, std::size_t most)
    : memory_(size, fd), most_(std::max<std::size_t>(most, 1)) {
  // There is a free range behind each loan at most, and one in front: put() needs no memory.
  free_.reserve(std::min(most_, size / loan_unit) + 1);
  free_.push_back({0, size});
}

COHORT_INLINE loan_pool::place::~place() {
  std::erase(pool.queue_, this);
  pool.admit_next();
}

COHORT_INLINE std::size_t loan_pool::find(std::size_t bytes) const noexcept {
  if (out_ >= most_) return free_.size();
  const std::size_t size = loan_size(bytes);
  const auto at =
      std::find_if(free_.begin(), free_.end(), [size](const loan_range& each) { return each.size >= size; });
  return static_cast<std::size_t>(at - free_.begin());
}

COHORT_INLINE bool loan_pool::has_touched(std::size_t bytes) const noexcept {
  if (!has_room(bytes)) return false;
  return free_[find(bytes)].offset + loan_size(bytes) <= touched_;
}

COHORT_INLINE loan_range loan_pool::take(std::size_t bytes) noexcept {
  const std::size_t which = find(bytes);
  loan_range& from = free_[which];
  const loan_range taken{from.offset, loan_size(bytes)};
  from.offset += taken.size;
  from.size -= taken.size;
  if (from.size == 0) free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(which));
  touched_ = std::max(touched_, taken.offset + taken.size);
  ++out_;
  return taken;
}

COHORT_INLINE void loan_pool::put(loan_range range) noexcept {
  const auto next = std::lower_bound(free_.begin(), free_.end(), range.offset,
                                     [](const loan_range& each, std::size_t at) { return each.offset < at; });
  const bool joins_next = next != free_.end() && range.offset + range.size == next->offset;
  const bool joins_last = next != free_.begin() && (next - 1)->offset + (next - 1)->size == range.offset;
  if (joins_last) {
    (next - 1)->size += range.size + (joins_next ? next->size : 0);
    if (joins_next) free_.erase(next);
  } else if (joins_next) {
    next->offset = range.offset;
    next->size += range.size;
  } else {
    free_.insert(next, range);
  }
  --out_;
  admit_next();
}

COHORT_INLINE void loan_pool::wake_all() {
  for (place* each : queue_) each->wake();
}

COHORT_INLINE std::uint64_t loan_pool::lend(loan_range range) {
  lent_.push_back(last_ + 1, lent{range});
  return ++last_;
}

COHORT_INLINE std::optional<loan_range> loan_pool::take_back(std::uint64_t id) {
  const lent* const found = lent_.find(id);
  if (found == nullptr) return {};
  const loan_range range = found->range;
  lent_.remove(id);
  return range;
}

COHORT_INLINE void loan_pool::settle(std::uint64_t id, outbox::ticket begun) {
  const lent* const found = lent_.find(id);
  // Believed too early, the memory would be lent a second time while the first message is still to be sent.
  if (found == nullptr || found->sent > begun) {
    throw_error("receive: loan " + std::to_string(id) + " given back that the peer does not have", errc::malformed);
  }
  const loan_range range = found->range;
  lent_.remove(id);
  put(range);
}

}  // namespace cohort::detail
