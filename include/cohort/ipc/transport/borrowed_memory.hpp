// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "../../core/descriptor.hpp"
#include "../codec/byte_buffer.hpp"
#include "loan_memory.hpp"
#include "numbered_fifo.hpp"

namespace cohort {

class link;

namespace detail {

/// A loan that has arrived and that the application has not taken.
struct arrived_loan {
  std::uint64_t id = 0;
  std::size_t offset = 0;
  std::size_t count = 0;
  loan_type type;
  byte_buffer message;  // u16 type, encoding
};

/// What the peer lends: its pool, the loans that have arrived, and which of its memory is with this side. Knows no
/// socket and no loop.
///
/// What no correct peer sends throws errc::malformed: a second pool, a loan without a pool or outside of it, one that
/// overlaps another one which has not been given back, a number that does not rise.
class borrowed_memory {
 public:
  bool has_pool() const noexcept { return memory_ != nullptr; }

  void attach(const descriptor& fd, std::uint64_t size);

  /// Keeps a loan: `data` is loan_head and message.
  void arrive(const char* data, std::size_t size);

  bool has_loan() const noexcept { return !arrived_.empty(); }

  /// Takes the first loan. There must be one.
  arrived_loan pop();

  /// Memory is the peer's again.
  void release(std::size_t offset) noexcept { live_.erase(offset); }

  /// Drops the loans that have not been taken, and the mapping: no others come.
  void drop() noexcept;

  const std::shared_ptr<const loan_memory>& memory() const noexcept { return memory_; }

  /// Bytes of messages with loans that wait to be taken, and the memory that they take, about.
  std::size_t stored_bytes() const noexcept { return stored_bytes_; }
  std::size_t stored_memory() const noexcept { return stored_bytes_ + arrived_.size() * 2 * sizeof(arrived_loan); }

 private:
  std::shared_ptr<const loan_memory> memory_;
  std::map<std::size_t, std::size_t> live_;  // where each begins and ends: no more of them than the peer's pool holds
  numbered_fifo<arrived_loan> arrived_;
  std::size_t stored_bytes_ = 0;
  std::uint64_t last_ = 0;
};

/// Memory of the peer's pool, or a copy: it is given back at the end, unless the channel has ended by then. Holds the
/// mapping.
class borrowed_piece {
 public:
  borrowed_piece() = default;
  borrowed_piece(std::weak_ptr<link> owner, std::shared_ptr<const loan_memory> memory, std::uint64_t id,
                 std::size_t offset) noexcept
      : data_(memory->data() + offset),
        memory_(std::move(memory)),
        owner_(std::move(owner)),
        id_(id),
        offset_(offset) {}
  borrowed_piece(borrowed_piece&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        memory_(std::move(other.memory_)),
        owner_(std::move(other.owner_)),
        id_(std::exchange(other.id_, 0)),
        offset_(other.offset_) {}
  borrowed_piece& operator=(borrowed_piece&& other) noexcept;
  ~borrowed_piece() { give_back(); }

  const char* data() const noexcept { return data_; }

  /// Copies the bytes, and gives the memory back.
  void copy(std::size_t bytes);

  void give_back() noexcept;

 private:
  const char* data_ = nullptr;
  std::shared_ptr<const void> memory_;
  std::weak_ptr<link> owner_;
  std::uint64_t id_ = 0;  // 0: there is nothing to give back
  std::size_t offset_ = 0;
};

}  // namespace detail
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "link.hpp"  // with the bodies, which need the whole of it
#endif
