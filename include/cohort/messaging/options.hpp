// SPDX-License-Identifier: BSL-1.0
/// How the primary keeps messages for processes that do not keep up with them: plain data.
#pragma once

#include <cstddef>

namespace cohort {

/// What happens to messages for a process that does not keep up with them.
enum class slow_receiver {
  block,        ///< senders wait
  drop_oldest,  ///< the message that has waited longest makes room: its sender is told undelivered::dropped
  disconnect,   ///< it gets no messages any more, their senders are told undelivered::slow, and it is replaced
};

/// How the primary keeps messages for a process.
struct delivery_options {
  delivery_options() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  /// Messages that a process handles at the same time; further ones wait in the primary.
  std::size_t in_flight = 64;
  /// How many may wait there for one process before `slow` decides. With slow_receiver::block they are as many as
  /// senders have under way, message_endpoint::window each at most.
  std::size_t queue = 1024;
  slow_receiver slow = slow_receiver::block;
};

}  // namespace cohort
