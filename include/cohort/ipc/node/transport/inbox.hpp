// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <optional>

#include "../message.hpp"

namespace cohort::detail {

/// What has arrived and has not been received, in order. Knows no loop.
class node_inbox {
 public:
  /// Which of the messages somebody asks for.
  enum class wanted {
    any,      ///< the next of the application's, with a handle or without
    plain,    ///< the next without a handle
    handle,   ///< the next with one
    internal  ///< the next of Node's cluster module
  };

  void put(node_message message, std::size_t size, bool internal = false);

  /// In the place of a message that could not be read: throws this when it is its turn.
  void put(std::exception_ptr failure);

  bool has(wanted which) const noexcept;

  /// Takes the next; there must be one. Throws in the place of one that could not be read.
  node_message take(wanted which);

  /// Closes the handles, and forgets everything.
  void clear();

  /// Of the messages as they were on the wire, with a part for the memory of small ones.
  std::size_t bytes() const noexcept { return bytes_; }

  /// Handles that have not been taken.
  std::size_t handles() const noexcept { return handles_; }

 private:
  struct item {
    node_message message;
    std::exception_ptr failure;
    std::size_t size;
    std::uint64_t number;
  };

  std::deque<item>& queue_for(wanted which) noexcept;

  std::deque<item> plain_, with_handle_, internal_;
  std::size_t bytes_ = 0, handles_ = 0;
  std::uint64_t number_ = 0;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "inbox.ipp"
#endif
