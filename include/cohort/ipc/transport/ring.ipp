// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "ring.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string>

#include <sys/mman.h>

#include "../../core/error.hpp"
#include "sealed_memory.hpp"

namespace cohort::detail {

COHORT_INLINE descriptor ring_memory::make(std::size_t capacity) {
  const std::string what = "a ring of " + std::to_string(capacity) + " bytes";
  descriptor fd = make_memory("cohort ring", head_size + capacity, what);
  seal_memory(fd.get(), false, what);
  return fd;
}

COHORT_INLINE void ring_memory::check(int fd, std::uint64_t capacity) {
  const std::uint64_t size = sealed_size(fd, "a ring");
  const bool is_size = capacity >= least && capacity <= most && std::has_single_bit(capacity);
  if (!is_size || size != head_size + capacity) {
    throw_error("receive: a ring of " + std::to_string(capacity) + " bytes in a file of " + std::to_string(size),
                errc::malformed);
  }
}

COHORT_INLINE ring_memory::ring_memory(int fd, std::size_t capacity) : capacity_(capacity) {
  void* const at = ::mmap(nullptr, head_size + capacity, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) throw_error("channel: map a ring of " + std::to_string(capacity) + " bytes", errno);
  at_ = static_cast<char*>(at);
}

COHORT_INLINE ring_memory::~ring_memory() {
  if (at_ != nullptr) ::munmap(at_, head_size + capacity_);
}

COHORT_INLINE ring_writer::ring_writer(ring_memory memory) : memory_(std::move(memory)) {
  memory_.control().handles_at.store(none);
}

COHORT_INLINE std::optional<std::size_t> ring_writer::room() noexcept {
  const std::uint64_t head = memory_.control().head.load();
  if (tail_ - head > memory_.capacity() || tail_ - head > tail_ - head_) return {};  // never back, nor too far
  head_ = head;
  return memory_.capacity() - static_cast<std::size_t>(tail_ - head);
}

COHORT_INLINE std::size_t ring_writer::write(const iovec* parts, std::size_t count) noexcept {
  constexpr std::size_t slice = 64 * 1024;  // the reader begins before all of it is there
  const std::size_t mask = memory_.capacity() - 1;
  std::size_t room = memory_.capacity() - static_cast<std::size_t>(tail_ - head_);
  std::size_t written = 0, published = 0;
  for (std::size_t i = 0; i < count && room != 0; ++i) {
    const char* from = static_cast<const char*>(parts[i].iov_base);
    std::size_t left = std::min(parts[i].iov_len, room);
    room -= left;
    while (left != 0) {
      const std::size_t at = static_cast<std::size_t>(tail_) & mask;
      const std::size_t step = std::min({left, memory_.capacity() - at, slice});
      std::memcpy(memory_.data() + at, from, step);
      from += step;
      left -= step;
      tail_ += step;
      written += step;
      if (written - published >= slice) {
        published = written;
        memory_.control().tail.store(tail_, std::memory_order_release);
      }
    }
  }
  memory_.control().tail.store(tail_);  // before `sleeps` is looked at, in the one order that all see
  stalled_ = head_at_write_ == head_;
  head_at_write_ = head_;
  return written;
}

COHORT_INLINE void ring_writer::announce_handles() noexcept {
  handles_at_ = tail_;
  memory_.control().handles_at.store(tail_);
}

COHORT_INLINE bool ring_writer::takes_sleep() noexcept {
  auto& sleeps = memory_.control().sleeps;
  const bool asleep = sleeps.load() != 0 && sleeps.exchange(0) != 0;
  if (asleep) stalled_ = false;
  return asleep;
}

COHORT_INLINE bool ring_writer::ask_for_room() noexcept {
  const std::uint64_t ahead = tail_ + memory_.capacity() / 4;
  const std::uint64_t for_room = ahead - std::min<std::uint64_t>(ahead, memory_.capacity());
  const std::uint64_t wish = std::max(for_room, handles_are_taken() ? 0 : handles_at_ + 1);
  if (wish == 0 || head_ >= wish) return false;
  memory_.control().wanted.store(wish);
  return memory_.control().head.load() < wish;
}

COHORT_INLINE std::size_t ring_reader::available() const {
  const std::uint64_t tail = memory_.control().tail.load();
  if (tail - head_ > memory_.capacity()) {
    throw_error(
        "receive: " + std::to_string(tail - head_) + " bytes in a ring of " + std::to_string(memory_.capacity()),
        errc::malformed);
  }
  return static_cast<std::size_t>(tail - head_);
}

COHORT_INLINE std::size_t ring_reader::before_handles(std::size_t available) const noexcept {
  const std::uint64_t at = memory_.control().handles_at.load();
  return at - head_ < available ? static_cast<std::size_t>(at - head_) : available;
}

COHORT_INLINE std::size_t ring_reader::read(const iovec* parts, std::size_t count, std::size_t size) noexcept {
  const std::size_t mask = memory_.capacity() - 1;
  std::size_t taken = 0;
  for (std::size_t i = 0; i < count && size != 0; ++i) {
    char* to = static_cast<char*>(parts[i].iov_base);
    std::size_t left = std::min(parts[i].iov_len, size);
    size -= left;
    while (left != 0) {
      const std::size_t at = static_cast<std::size_t>(head_) & mask;
      const std::size_t step = std::min(left, memory_.capacity() - at);
      std::memcpy(to, memory_.data() + at, step);
      to += step;
      left -= step;
      head_ += step;
      taken += step;
    }
  }
  memory_.control().head.store(head_);  // before `wanted` is looked at
  return taken;
}

COHORT_INLINE bool ring_reader::takes_wish() noexcept {
  auto& wanted = memory_.control().wanted;
  const std::uint64_t wish = wanted.load();
  return wish != 0 && head_ >= wish && wanted.exchange(0) != 0;
}

COHORT_INLINE bool ring_reader::ask_for_bytes() noexcept {
  memory_.control().sleeps.store(1);
  if (memory_.control().tail.load() == head_) return true;
  wake();
  return false;
}

}  // namespace cohort::detail
