// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <unordered_map>

#include "../../core/asio.hpp"
#include "../../core/event.hpp"
#include "frame.hpp"
#include "inbox.hpp"

namespace cohort::detail {

/// Which calls a side of a channel waits for, and which it answers.
class call_book {
 public:
  struct answer {
    wire::envelope what;
    inbox::stored content;
  };

  /// A call that waits for its answers.
  struct waiting {
    explicit waiting(const asio::any_io_executor& executor) : changed(executor) {}
    event changed;
    std::deque<answer> answers;  // whoever takes the call out of the book drops those that are left
    std::uint64_t id = 0;
  };

  void enter(waiting& call);

  void remove(const waiting& call);

  /// The call with this number, which may have been given up. `was_made` is false for one that never was.
  waiting* find(std::uint64_t id, bool& was_made) const;

  /// Wakes all who wait, to see that the channel has ended.
  void wake();

  /// Remembers how to cancel the answering of request `id`.
  void begin_answer(std::uint64_t id, std::weak_ptr<asio::cancellation_signal> cancel);

  void end_answer(std::uint64_t id);

  /// How to cancel the answering of request `id`; nothing if it has been answered. Throws errc::malformed the second
  /// time, as its caller cancels it once.
  std::shared_ptr<asio::cancellation_signal> cancel_answer(std::uint64_t id);

  /// Whether the caller of request `id`, which is being answered, has cancelled it.
  bool is_cancelled(std::uint64_t id) const;

 private:
  std::uint64_t last_ = 0;
  std::unordered_map<std::uint64_t, waiting*> waiting_;

  struct answering {
    std::weak_ptr<asio::cancellation_signal> signal;
    bool cancelled = false;
  };

  // Not by hash: the peer chooses the numbers.
  std::map<std::uint64_t, answering> answering_;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "call_book.ipp"
#endif
