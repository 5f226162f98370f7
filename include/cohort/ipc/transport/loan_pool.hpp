// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../../core/descriptor.hpp"
#include "loan_memory.hpp"
#include "numbered_fifo.hpp"
#include "outbox.hpp"

namespace cohort::detail {

class loan_piece;

/// The memory that this side of a channel lends: what is free of it, what the peer has, and who waits for some. Knows
/// no socket and no loop.
///
/// The free memory at the lowest address is taken first, so that pages which have been touched are used again.
class loan_pool {
 public:
  /// `size` is a multiple of loan_unit; `most` loans may be out at a time, 1 at least.
  loan_pool(std::size_t size, std::size_t most);

  std::size_t size() const noexcept { return memory_.size(); }
  char* data() const noexcept { return memory_.data(); }

  /// A place among those who wait for memory; `wake()` is called when it may have come to its turn, and must not throw.
  struct place {
    place(loan_pool& in, std::function<void()> wakes) : pool(in), wake(std::move(wakes)) {
      pool.queue_.push_back(this);
    }
    place(const place&) = delete;
    ~place();

    /// Whether it is the first, and there is room for so many bytes.
    bool has_come(std::size_t bytes) const noexcept {
      return pool.queue_.front() == this && pool.find(bytes) != pool.free_.size();
    }

    loan_pool& pool;
    std::function<void()> wake;
  };

  /// Whether there is room for so many bytes and nobody waits.
  bool has_room(std::size_t bytes) const noexcept { return queue_.empty() && find(bytes) != free_.size(); }

  /// Whether there is room for so many bytes in memory that has been used before, and nobody waits.
  bool has_touched(std::size_t bytes) const noexcept;

  /// Takes memory for so many bytes, for which there must be room.
  loan_range take(std::size_t bytes) noexcept;

  /// Gives it back.
  void put(loan_range range) noexcept;

  /// Has all who wait look again at what they wait for.
  void wake_all();

  // -- what the peer has ------------------------------------------------------------------------------------------

  /// Notes that memory is on its way to the peer; returns the number of the loan.
  std::uint64_t lend(loan_range range);

  /// The message that carries the loan.
  void sent(std::uint64_t id, outbox::ticket which) noexcept { lent_.find(id)->sent = which; }

  loan_range range_of(std::uint64_t id) noexcept { return lent_.find(id)->range; }

  /// The peer does not have it after all. None if it has given it back already.
  std::optional<loan_range> take_back(std::uint64_t id);

  /// The peer, who has everything up to the message `begun`, gives a loan back. Throws errc::malformed for one that it
  /// does not have.
  void settle(std::uint64_t id, outbox::ticket begun);

  // -- the descriptor ---------------------------------------------------------------------------------------------

  /// What is to be passed to the peer; none once it has been.
  descriptor fd;
  /// The message that passes it; none before.
  outbox::ticket passed_with = 0;

 private:
  struct lent {
    loan_range range;
    outbox::ticket sent = outbox::never;
  };

  /// The first free range of so many bytes; free_.size() if there is none now.
  std::size_t find(std::size_t bytes) const noexcept;

  void admit_next() noexcept {
    if (!queue_.empty()) queue_.front()->wake();
  }

  loan_memory memory_;
  std::vector<loan_range> free_;  // by address, no two side by side
  std::size_t touched_ = 0;       // the end of what has been taken so far
  std::size_t out_ = 0;
  std::size_t most_;
  numbered_fifo<lent> lent_;
  std::uint64_t last_ = 0;
  std::deque<place*> queue_;
};

/// Memory of a pool that is this side's to write: it goes back at the end. Holds the pool.
class loan_piece {
 public:
  loan_piece() = default;
  loan_piece(std::shared_ptr<loan_pool> pool, loan_range range) noexcept : pool_(std::move(pool)), range_(range) {}
  loan_piece(loan_piece&& other) noexcept : pool_(std::move(other.pool_)), range_(other.range_) {}
  loan_piece& operator=(loan_piece&& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(range_, other.range_);
    return *this;
  }
  ~loan_piece() {
    if (pool_) pool_->put(range_);
  }

  char* data() const noexcept { return pool_ ? pool_->data() + range_.offset : nullptr; }
  const std::shared_ptr<loan_pool>& pool() const noexcept { return pool_; }
  loan_range range() const noexcept { return range_; }

  /// It is somebody else's from now on.
  void release() noexcept { pool_.reset(); }

 private:
  std::shared_ptr<loan_pool> pool_;
  loan_range range_;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "loan_pool.ipp"
#endif
