// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "socket_counts.hpp"

#include "../../../core/config.hpp"

#include <optional>

#include <sys/socket.h>

namespace cohort::detail {

/// The kernel's name for a socket, which no other one ever has (Linux 4.12).
inline std::optional<std::uint64_t> cookie_of(int fd) noexcept {
  constexpr int so_cookie = 57;
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  if (::getsockopt(fd, SOL_SOCKET, so_cookie, &cookie, &size) != 0) return std::nullopt;
  return cookie;
}

COHORT_INLINE void node_socket_counts::add(const std::string& key, int fd) {
  const auto cookie = cookie_of(fd);
  if (!cookie) return;
  sockets_[key].push_back({fd, *cookie});
  // Now and then, because a server that never asks would leave all sockets here that there ever were.
  constexpr std::size_t often = 256;
  if (++added_ % often != 0) return;
  for (auto& each : sockets_) drop_closed(each.second);
  std::erase_if(sockets_, [](const auto& each) { return each.second.empty(); });
}

COHORT_INLINE void node_socket_counts::drop_closed(std::vector<socket>& sockets) {
  std::erase_if(sockets, [](const socket& each) { return cookie_of(each.fd) != each.cookie; });
}

COHORT_INLINE std::size_t node_socket_counts::count(const std::string& key) {
  const auto at = sockets_.find(key);
  if (at == sockets_.end()) return 0;
  drop_closed(at->second);
  const std::size_t result = at->second.size();
  if (result == 0) sockets_.erase(at);
  return result;
}

COHORT_INLINE std::vector<std::string> node_socket_counts::take_closed() {
  std::vector<std::string> result;
  for (auto at = watched_.begin(); at != watched_.end();) {
    if (count(*at) != 0) {
      ++at;
      continue;
    }
    result.push_back(*at);
    at = watched_.erase(at);
  }
  return result;
}

}  // namespace cohort::detail
