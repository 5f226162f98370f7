// SPDX-License-Identifier: BSL-1.0
/// A byte ring in memory that two processes share: one writes, the other reads.
///
/// What is shared: a sealed memfd of one page, which holds the positions and flags, and `capacity` bytes behind it.
/// Memory: the pages of a ring are taken as bytes first go through them, so a ring that carries little takes little.
///
/// What a hostile peer can do: the peer has the same memory and may write anything there at any time. A position is
/// copied out once and then checked; each side keeps its own position and never reads it back; bytes are copied out
/// before anybody looks at them. The worst is errc::malformed. The seals keep the peer from shrinking the memory, so
/// that no access can end in SIGBUS.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include <sys/uio.h>

#include "../../core/descriptor.hpp"

namespace cohort::detail {

/// What both sides read and write. Each line is written by one side, except for the two flags, which the one side sets
/// and the other clears.
struct ring_control {
  alignas(64) std::atomic<std::uint64_t> tail;    ///< writer: bytes written so far
  std::atomic<std::uint64_t> handles_at;          ///< writer: where the last frame is that descriptors came with
  alignas(64) std::atomic<std::uint64_t> head;    ///< reader: bytes read so far
  alignas(64) std::atomic<std::uint32_t> sleeps;  ///< the reader waits for the bell
  alignas(
      64) std::atomic<std::uint64_t> wanted;  ///< the writer waits for the bell until `head` is here; 0: it does not
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<std::uint32_t>::is_always_lock_free);

/// The mapping of a ring.
class ring_memory {
 public:
  static constexpr std::size_t head_size = 4096;
  static constexpr std::size_t least = 4096;
  static constexpr std::size_t most = 1u << 30;

  ring_memory() = default;

  /// Maps a ring of `capacity` bytes, a power of two. Throws what mmap(2) says.
  ring_memory(int fd, std::size_t capacity);

  ring_memory(ring_memory&& other) noexcept
      : at_(std::exchange(other.at_, nullptr)), capacity_(std::exchange(other.capacity_, 0)) {}
  ring_memory& operator=(ring_memory&& other) noexcept {
    std::swap(at_, other.at_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }
  ~ring_memory();

  /// New memory for a ring of `capacity` bytes, sealed. Throws what memfd_create(2), ftruncate(2) or fcntl(2) says.
  static descriptor make(std::size_t capacity);

  /// Throws errc::malformed unless the descriptor is a memfd of just this size that nobody can shrink.
  static void check(int fd, std::uint64_t capacity);

  ring_control& control() const noexcept { return *reinterpret_cast<ring_control*>(at_); }
  char* data() const noexcept { return at_ + head_size; }
  std::size_t capacity() const noexcept { return capacity_; }

 private:
  char* at_ = nullptr;
  std::size_t capacity_ = 0;
};

/// The writer's side. Throws nothing.
class ring_writer {
 public:
  explicit ring_writer(ring_memory memory);

  /// Bytes that can be written now; none if the peer has written there what cannot be.
  std::optional<std::size_t> room() noexcept;

  /// Copies what there is room for (as room() last said), and publishes it.
  std::size_t write(const iovec* parts, std::size_t count) noexcept;

  /// Descriptors have been sent for the frame that is written next.
  void announce_handles() noexcept;

  /// Whether the reader has got to the frame that descriptors were last sent for.
  bool handles_are_taken() const noexcept { return handles_at_ == none || head_ > handles_at_; }

  /// Whether the reader waits for the bell; says so once.
  bool takes_sleep() noexcept;

  /// The bell has not been rung: the reader still waits for it.
  void put_sleep_back() noexcept { memory_.control().sleeps.store(1); }

  /// Asks for the bell when there is room again, a quarter of the ring; false if there is already.
  bool ask_for_room() noexcept;

  /// Whether the reader has read nothing since the last write, and does not sleep.
  bool is_stalled() const noexcept { return stalled_; }

 private:
  static constexpr std::uint64_t none = ~std::uint64_t{0};

  ring_memory memory_;
  std::uint64_t tail_ = 0;
  std::uint64_t head_ = 0;  // as last read, and found to be possible
  std::uint64_t head_at_write_ = none;
  std::uint64_t handles_at_ = none;
  bool stalled_ = false;
};

/// The reader's side.
class ring_reader {
 public:
  explicit ring_reader(ring_memory memory) : memory_(std::move(memory)) {}

  /// Bytes to be read. Throws errc::malformed for what cannot be.
  std::size_t available() const;

  /// Of `available` bytes, those before the next frame that descriptors came with; all if there is none.
  std::size_t before_handles(std::size_t available) const noexcept;

  /// Copies out up to `size` bytes, as far as the parts reach.
  std::size_t read(const iovec* parts, std::size_t count, std::size_t size) noexcept;

  /// Whether the writer waits for the bell until as much has been read as there has; says so once.
  bool takes_wish() noexcept;

  /// The bell has not been rung: the writer still waits for it.
  void put_wish_back() noexcept { memory_.control().wanted.store(1); }

  /// Asks for the bell when something is written; false if there is something already.
  bool ask_for_bytes() noexcept;

  void wake() noexcept { memory_.control().sleeps.store(0, std::memory_order_relaxed); }

  /// Has whoever writes later ring the bell, and so notice that nobody is there.
  void leave() noexcept { memory_.control().sleeps.store(1); }

 private:
  ring_memory memory_;
  std::uint64_t head_ = 0;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "ring.ipp"
#endif
