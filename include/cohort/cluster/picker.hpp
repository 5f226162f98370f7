// SPDX-License-Identifier: BSL-1.0
/// Which worker a connection goes to, where the primary accepts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string_view>
#include <utility>

#include <netinet/in.h>
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
inline std::size_t next_after(unsigned last, std::span<const candidate> among) {
  std::size_t first = 0, next = among.size();
  for (std::size_t i = 0; i < among.size(); ++i) {
    if (among[i].slot < among[first].slot) first = i;
    if (among[i].slot > last && (next == among.size() || among[i].slot < among[next].slot)) next = i;
  }
  return next != among.size() ? next : first;
}

/// The address of the other side without its port; empty if it has none.
inline std::string_view peer_address(int fd, sockaddr_storage& storage) {
  socklen_t size = sizeof storage;
  auto* const general = reinterpret_cast<sockaddr*>(&storage);
  if (::getpeername(fd, general, &size) != 0) return {};
  if (storage.ss_family == AF_INET) {
    const auto& address = reinterpret_cast<const sockaddr_in&>(storage).sin_addr;
    return {reinterpret_cast<const char*>(&address), sizeof address};
  }
  if (storage.ss_family == AF_INET6) {
    const auto& address = reinterpret_cast<const sockaddr_in6&>(storage).sin6_addr;
    return {reinterpret_cast<const char*>(&address), sizeof address};
  }
  return {};
}

/// FNV-1a over the address and the slot, stirred at the end (the finalizer of MurmurHash3): neighbours differ in all
/// bits.
inline std::uint64_t weight_of(std::string_view address, unsigned slot) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char byte : address) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  hash ^= slot * 0x9e3779b97f4a7c15;
  hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccd;
  hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53;
  return hash ^ (hash >> 33);
}

}  // namespace detail

/// distribution::round_robin.
inline picking pick_in_turn() {
  picking result;
  result.pick = [last = 0u](const any_handle&, std::span<const candidate> among) mutable {
    const std::size_t chosen = detail::next_after(last, among);
    last = among[chosen].slot;
    return chosen;
  };
  result.spreads = true;
  return result;
}

/// distribution::least_connections.
inline picking pick_least_connections() {
  picking result;
  result.pick = [last = 0u](const any_handle&, std::span<const candidate> among) mutable {
    std::size_t chosen = detail::next_after(last, among);
    for (std::size_t i = 0; i < among.size(); ++i) {
      if (among[i].open < among[chosen].open) chosen = i;
    }
    last = among[chosen].slot;
    return chosen;
  };
  result.spreads = true;
  result.counts = true;
  return result;
}

/// distribution::by_address: of all slots the one with the greatest weight for this address. When a slot goes, only its
/// own clients move (rendezvous hashing, Thaler and Ravishankar 1998).
inline picking pick_by_address() {
  picking result;
  result.pick = [last = 0u](const any_handle& connection, std::span<const candidate> among) mutable {
    sockaddr_storage storage{};
    const std::string_view address = detail::peer_address(connection.native_handle(), storage);
    std::size_t chosen = 0;
    if (address.empty()) {
      chosen = detail::next_after(last, among);
      last = among[chosen].slot;
      return chosen;
    }
    for (std::size_t i = 1; i < among.size(); ++i) {
      if (detail::weight_of(address, among[i].slot) > detail::weight_of(address, among[chosen].slot)) chosen = i;
    }
    return chosen;
  };
  return result;
}

}  // namespace cohort
