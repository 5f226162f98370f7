// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <optional>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace cohort {

/// Connections that the kernel holds for a listener until somebody accepts them.
struct accept_queue {
  std::uint32_t waiting = 0;
  std::uint32_t limit = 0;  ///< what comes when more wait is dropped, and tries again
};

/// The queue of a listening TCP socket, or of several together when it is called again with what it has returned; of
/// others nothing is known.
///
/// Linux tells it in the fields of TCP_INFO that mean something else for a connection: tcpi_unacked and tcpi_sacked
/// (tcp_get_info in net/ipv4/tcp.c, since 2.6.24; ss(8) shows the same as Recv-Q and Send-Q).
inline std::optional<accept_queue> queue_of(int fd, std::optional<accept_queue> sum = std::nullopt) noexcept {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 || info.tcpi_state != TCP_LISTEN) return sum;
  accept_queue result = sum.value_or(accept_queue());
  result.waiting += info.tcpi_unacked;
  result.limit += info.tcpi_sacked;
  return result;
}

}  // namespace cohort
