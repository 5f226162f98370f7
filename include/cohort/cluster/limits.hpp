// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "../messaging/endpoint.hpp"

namespace cohort {

/// What one worker or agent may take of its primary, whatever it does. One that is honest stays far below; one that is
/// not wastes its own connections and messages. What is refused is counted (worker_stats::refused).
///
/// A process costs the primary, at most, max_bytes and twice max_message of memory, beside some hundred KiB.
struct process_limits {
  process_limits() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  /// The largest message that goes by way of the primary, in bytes of its encoding. Who sends a larger one gets
  /// errc::message_too_large.
  std::uint32_t max_message = 16 * 1024 * 1024;
  /// Messages of a process that the primary works on at the same time; further ones wait unread.
  std::size_t max_messages = message_endpoint::window;
  /// The bytes of these messages. One that goes beyond is not delivered: undelivered::dropped.
  std::size_t max_bytes = 64 * 1024 * 1024;
  /// Direct channels to other processes that it may ask for at the same time (messenger::send_directly); further ones
  /// wait, in the kernel from 64 on.
  std::size_t max_introductions = 4;
  /// How long the other process may take to accept its end of such a channel.
  std::chrono::milliseconds introduction_timeout{5'000};
  /// How long a worker that answers pings may leave a connection in its channel that it was given. Then it is killed,
  /// and others get its connections. One that has worker_options::max_connections may wait for room.
  std::chrono::milliseconds lease_timeout{10'000};
  /// Of what it says of itself (cluster_event::kind::failed), so many are events within ten seconds.
  std::size_t max_events = 20;
};

}  // namespace cohort
