// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "borrowed_memory.hpp"

#include "../../core/config.hpp"

#include <cstring>
#include <iterator>
#include <new>
#include <string>

#include "../../core/error.hpp"
#include "frame.hpp"
#include "link.hpp"

namespace cohort::detail {

COHORT_INLINE void borrowed_memory::attach(const descriptor& fd, std::uint64_t size) {
  memory_ = std::make_shared<const loan_memory>(fd, size);
}

COHORT_INLINE void borrowed_memory::arrive(const char* data, std::size_t size) {
  arrived_loan loan;
  loan.id = wire::load(data, 8);
  const std::uint64_t offset = wire::load(data + 8, 8), count = wire::load(data + 16, 8);
  loan.type.hash = wire::load(data + 24, 8);
  loan.type.size = static_cast<std::uint32_t>(wire::load(data + 32, 4));
  const auto malformed = [&](const char* why) {
    throw_error("receive: loan " + std::to_string(loan.id) + " of " + std::to_string(count) + " times " +
                    std::to_string(loan.type.size) + " bytes at " + std::to_string(offset) + why,
                errc::malformed);
  };
  if (!memory_) malformed(", without a pool");
  if (loan.id <= last_) malformed(", a number that does not rise");
  const std::size_t all = memory_->size();
  if (loan.type.size == 0 || offset % loan_unit != 0) malformed(", which is no place for a loan");
  if (offset >= all || count > (all - offset) / loan.type.size) malformed(", outside of the pool");
  loan.offset = static_cast<std::size_t>(offset);
  loan.count = static_cast<std::size_t>(count);
  const std::size_t end = loan.offset + loan_size(loan.count * loan.type.size);
  const auto next = live_.lower_bound(loan.offset);
  if ((next != live_.end() && next->first < end) || (next != live_.begin() && std::prev(next)->second > loan.offset)) {
    malformed(", which is lent already");
  }
  std::memcpy(loan.message.grow(size - loan_head), data + loan_head, size - loan_head);
  last_ = loan.id;
  live_.emplace_hint(next, loan.offset, end);
  stored_bytes_ += loan.message.size();
  arrived_.push_back(loan.id, std::move(loan));
}

COHORT_INLINE arrived_loan borrowed_memory::pop() {
  arrived_loan first = std::move(arrived_.front());
  arrived_.pop_front();
  stored_bytes_ -= first.message.size();
  return first;
}

COHORT_INLINE void borrowed_memory::drop() noexcept {
  while (has_loan()) release(pop().offset);
  memory_.reset();
}

COHORT_INLINE borrowed_piece& borrowed_piece::operator=(borrowed_piece&& other) noexcept {
  if (this == &other) return *this;
  give_back();
  data_ = std::exchange(other.data_, nullptr);
  memory_ = std::move(other.memory_);
  owner_ = std::move(other.owner_);
  id_ = std::exchange(other.id_, 0);
  offset_ = other.offset_;
  return *this;
}

COHORT_INLINE void borrowed_piece::copy(std::size_t bytes) {
  constexpr std::align_val_t alignment{loan_unit};
  void* const own = ::operator new(bytes == 0 ? 1 : bytes, alignment);
  const std::shared_ptr<const void> holds(own, [](void* memory) { ::operator delete(memory, alignment); });
  if (bytes != 0) std::memcpy(own, data_, bytes);
  give_back();
  data_ = static_cast<const char*>(own);
  memory_ = holds;
}

COHORT_INLINE void borrowed_piece::give_back() noexcept {
  data_ = nullptr;
  memory_.reset();
  const std::uint64_t id = std::exchange(id_, 0);
  if (id == 0) return;
  if (const auto owner = owner_.lock()) owner->give_back_loan(id, offset_);
  owner_.reset();
}

}  // namespace cohort::detail
