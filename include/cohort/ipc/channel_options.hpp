// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace cohort {

/// What carries the bytes of a channel.
enum class transport {
  /// The socket, unless the peer's channel has chosen shared memory: then both use it.
  socket,
  /// Rings of shared memory, one in each direction. A message is copied into the ring and out of it; the kernel is
  /// asked only to wake a side that sleeps, and to pass descriptors.
  ///
  /// It is enough that one side chooses it: the other learns it from the first bytes, unless its `max_peer_ring`
  /// forbids
  /// it. All else is as over the socket:
  /// errors, back-pressure (`send` completes when the ring has the whole message), cancellation; a message larger than
  /// the ring goes through it piece by piece. What a peer has written before it died is received.
  ///
  /// It pays for large messages, and for small ones between processes on cores of their own that are busy or poll
  /// (see channel::poll_for()); who sleeps is woken through the socket all the same.
  ///
  /// Memory: `ring_size` bytes for each direction, which are taken as messages first pass through them and given back
  /// with the channel, also when processes die. A peer that lies there can do no more than break the channel
  /// (errc::malformed): what is in the ring is checked after it has been copied out, and the memory is sealed.
  ///
  /// No memory or descriptor for a ring: the channel's constructor throws what the system says, if it is this side
  /// that has chosen; on the other side the channel breaks.
  shared_memory,
};

/// What a channel allows itself and its peer.
struct channel_options {
  channel_options() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  /// The largest message, in bytes of its encoding, in either direction.
  std::uint32_t max_message = 64 * 1024 * 1024;
  /// post() answers false while this many bytes wait to be written.
  std::size_t high_water = 1024 * 1024;
  /// Handles given and not yet adopted; further ones wait, in order. At least 1. When more descriptors of the peer's
  /// than this wait here, with a message or in one, nothing further is read until the application has taken some of
  /// them. (One read more can bring 253; as many again can be announced and in no message.)
  std::size_t max_leases = 64;
  /// Calls of the peer that are answered at the same time, until the answers are written; further ones wait.
  std::size_t max_calls = 1024;
  /// What carries the bytes.
  cohort::transport transport = cohort::transport::socket;
  /// Bytes of the ring that this side writes into, if it has one: a power of two, or the next above; 1 GiB at most.
  std::size_t ring_size = 1024 * 1024;
  /// Bytes of the largest ring of the peer's that this side takes, whatever its own choice: pages that the peer leaves
  /// empty become this side's when it reads them. A larger one breaks the channel (errc::malformed). 0: none is taken.
  std::uint64_t max_peer_ring = 64 * 1024 * 1024;
  /// Bytes of the pool that this side's loans come from (see channel::loan()): memory is taken as loans first reach it,
  /// and none before the first loan. 0: nothing is lent.
  std::size_t loan_pool = 64 * 1024 * 1024;
  /// Loans that this side has out at a time, sent or not; further ones wait. At least 1.
  std::size_t max_loans = 1024;
  /// Bytes of the largest pool of the peer's that this side borrows from; a larger one breaks the channel
  /// (errc::malformed). Pages that the peer leaves empty become this side's when it reads them. 0: none is taken.
  std::uint64_t max_peer_pool = 256 * 1024 * 1024;
  /// Copies a loan when it is received, for a peer that is not to be trusted: it can write into what it has lent.
  bool copy_loans = false;
};

}  // namespace cohort
