// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "../../core/descriptor.hpp"

namespace cohort::detail {

/// Loans begin at a multiple of this many bytes, and no two of them are in one such piece.
inline constexpr std::size_t loan_unit = 64;

/// A piece of a pool.
struct loan_range {
  std::size_t offset = 0;
  std::size_t size = 0;  // a multiple of loan_unit
};

/// What `bytes` take in a pool; they are at most the bytes of one.
inline std::size_t loan_size(std::size_t bytes) noexcept {
  return bytes == 0 ? loan_unit : (bytes + loan_unit - 1) / loan_unit * loan_unit;
}

/// What the elements of a loan are, for both sides to compare.
struct loan_type {
  std::uint64_t hash = 0;
  std::uint32_t size = 0;
};

/// What stands in front of the message that carries a loan: u64 id, u64 offset, u64 count, u64 hash, u32 size of an
/// element.
inline constexpr std::size_t loan_head = 36;

/// The mapping of a pool: the memory that one side of a channel lends to the other.
class loan_memory {
 public:
  /// New memory, which only this mapping can write to; `fd` is made what the peer is to map. Throws what the system
  /// says.
  loan_memory(std::size_t size, descriptor& fd);

  /// A peer's memory, to be read. Throws errc::malformed unless it is of this size for ever.
  loan_memory(const descriptor& fd, std::uint64_t size);

  loan_memory(const loan_memory&) = delete;
  loan_memory& operator=(const loan_memory&) = delete;
  ~loan_memory();

  char* data() const noexcept { return at_; }
  std::size_t size() const noexcept { return size_; }

 private:
  void map(int fd, int protection);

  char* at_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "loan_memory.ipp"
#endif
