// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pickers.hpp"

#include "../../core/config.hpp"
#include "../../ipc/handle.hpp"

#include <netinet/in.h>

namespace cohort {

namespace detail {

COHORT_INLINE std::size_t next_after(unsigned last, std::span<const candidate> among) {
  std::size_t first = 0, next = among.size();
  for (std::size_t i = 0; i < among.size(); ++i) {
    if (among[i].slot < among[first].slot) first = i;
    if (among[i].slot > last && (next == among.size() || among[i].slot < among[next].slot)) next = i;
  }
  return next != among.size() ? next : first;
}

COHORT_INLINE std::string_view peer_address(int fd, sockaddr_storage& storage) {
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

COHORT_INLINE std::uint64_t weight_of(std::string_view address, unsigned slot) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char byte : address) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  hash ^= slot * 0x9e3779b97f4a7c15;
  hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccd;
  hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53;
  return hash ^ (hash >> 33);
}

}  // namespace detail

COHORT_INLINE picking pick_in_turn() {
  picking result;
  result.pick = [last = 0u](const any_handle&, std::span<const candidate> among) mutable {
    const std::size_t chosen = detail::next_after(last, among);
    last = among[chosen].slot;
    return chosen;
  };
  result.spreads = true;
  return result;
}

COHORT_INLINE picking pick_least_connections() {
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

COHORT_INLINE picking pick_by_address() {
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
