// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "accept_queue.hpp"

#include "../core/config.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace cohort {

COHORT_INLINE std::optional<accept_queue> queue_of(int fd, std::optional<accept_queue> sum) noexcept {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 || info.tcpi_state != TCP_LISTEN) return sum;
  accept_queue result = sum.value_or(accept_queue());
  result.waiting += info.tcpi_unacked;
  result.limit += info.tcpi_sacked;
  return result;
}

}  // namespace cohort
