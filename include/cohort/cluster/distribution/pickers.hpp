// SPDX-License-Identifier: BSL-1.0
/// The pickers of the distributions in which the primary accepts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <sys/socket.h>

#include "../picker.hpp"

namespace cohort {

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
#include "pickers.ipp"
#endif
