// SPDX-License-Identifier: BSL-1.0
/// Which worker a connection goes to, where the primary accepts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include <sys/socket.h>
#include <sys/types.h>

#include "../ipc/handle.hpp"

namespace cohort {

/// A worker that a connection may go to. Those that have reached worker_options::max_connections are not among them.
struct candidate {
  unsigned slot;  ///< unique among those that are offered together
  pid_t pid;
  std::size_t open;       ///< connections that it has been given and that have not ended, as far as it has said
  std::size_t in_flight;  ///< those of them that it has not yet taken
  std::size_t place;      ///< the distributor's own
};

/// Chooses for a connection: returns an index into `among`, which is not empty. Called in the primary for each
/// connection, and again if the chosen one does not take it, so it must be quick; it must not throw.
///
/// `connection` is the accepted socket, to be looked at and not to be read from: getpeername(2), SO_PEERCRED.
using picker = std::function<std::size_t(const any_handle& connection, std::span<const candidate> among)>;

/// A picker, and what it needs.
struct picking {
  picker pick;
  bool spreads = false;  ///< anyone will do: a worker that is slow to take what it has been given is not offered
  bool counts = false;   ///< it looks at candidate::open, which workers tell of only when asked
};

namespace detail {

/// The next slot after `last`, around.
std::size_t next_after(unsigned last, std::span<const candidate> among);

/// The address of the other side without its port; empty if it has none.
std::string_view peer_address(int fd, sockaddr_storage& storage);

/// FNV-1a over the address and the slot, stirred at the end (the finalizer of MurmurHash3): neighbours differ in all
/// bits.
std::uint64_t weight_of(std::string_view address, unsigned slot);

}  // namespace detail

/// distribution::round_robin.
picking pick_in_turn();

/// distribution::least_connections.
picking pick_least_connections();

/// distribution::by_address: of all slots the one with the greatest weight for this address. When a slot goes, only its
/// own clients move (rendezvous hashing, Thaler and Ravishankar 1998).
picking pick_by_address();

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "picker.ipp"
#endif
