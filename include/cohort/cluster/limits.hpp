// SPDX-License-Identifier: BSL-1.0
/// Who may be dishonest, and what each can do and cannot do.
///
/// **A peer on a channel**, a child or a parent. It can send any bytes. The channel ends with errc::malformed at the
/// first that do not fit; a message takes max_expansion times its bytes, and a MiB, when it is decoded; what waits here
/// unread has a bound of bytes, of messages and of descriptors (channel_options), beyond which nothing is read; each
/// frame costs constant or logarithmic time. It can send a descriptor of any kind: a type that is asked for is checked,
/// `handle<descriptor>` is not. It can stop reading: sends wait then, and with_timeout() ends that. It can have the
/// channel go over to rings of shared memory of at most channel_options::max_peer_ring; those between the processes of
/// a cluster and at its control socket take none.
///
/// **A worker or an agent that has fewer rights than its primary** (command::user, seccomp, a container). Beside the
/// above it is held to process_limits. Who sends a message is what the primary knows, and only the primary says what
/// agents do. A worker can waste the connections that it was given, its own messages, and the time in which it is
/// replaced; it cannot take the primary's memory or descriptors, end or fill its siblings, or write more than lines of
/// 256 bytes into the log, twenty in ten seconds. It can claim to serve fast, and so get more connections than others
/// (distribution::least_connections). It can claim to have counted anything (worker::counter), which stays in the
/// totals, and take every name that is free. Under distribution::shared and reuse_port it has the listener itself: it
/// can take connections and drop them, and shut the listener down, which resets those that wait; whoever accepts next
/// has it listen again. Where workers are not to be trusted so far, the primary accepts: round_robin and its like. A
/// worker of the same user can signal, and trace, the primary and its siblings: that is the kernel's to forbid, not the
/// library's.
///
/// **A client of the control socket** is root or the primary's user, and may tell the cluster all that a signal may.
/// Others are refused. Silent clients make room for others, those that do not read are disconnected.
///
/// **Whoever writes the environment, the file system or the command line** of the primary is the primary. A worker
/// reads COHORT_CHANNEL_FD and its like once, and removes them.
///
/// **Clients** are the handler's business. What the library does with their connections costs one descriptor each, and
/// what is not accepted stays in the kernel's queue.
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
