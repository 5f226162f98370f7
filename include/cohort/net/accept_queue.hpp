// SPDX-License-Identifier: BSL-1.0
/// How many connections wait at a listener: plain data.
#pragma once

#include <cstdint>
#include <optional>

#include "../core/config.hpp"

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
std::optional<accept_queue> queue_of(int fd, std::optional<accept_queue> sum = std::nullopt) noexcept;

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "accept_queue.ipp"
#endif
