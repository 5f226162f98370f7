// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "handle.hpp"

#include "../core/config.hpp"

#include <sys/stat.h>

namespace cohort {

COHORT_INLINE std::string_view to_string(handle_kind kind) noexcept {
  switch (kind) {
    case handle_kind::descriptor: return "descriptor";
    case handle_kind::tcp_acceptor: return "tcp acceptor";
    case handle_kind::tcp_socket: return "tcp socket";
    case handle_kind::udp_socket: return "udp socket";
    case handle_kind::local_acceptor: return "local acceptor";
    case handle_kind::local_socket: return "local socket";
    case handle_kind::local_datagram: return "local datagram socket";
    case handle_kind::pipe: return "pipe";
    case handle_kind::file: return "file";
  }
  return "unknown";
}

namespace detail {

COHORT_INLINE int socket_option(int fd, int option) noexcept {
  int value = -1;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

}  // namespace detail

COHORT_INLINE handle_kind kind_of(int fd) noexcept {
  const int type = detail::socket_option(fd, SO_TYPE);
  if (type == -1) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) return handle_kind::descriptor;
    if (S_ISFIFO(status.st_mode)) return handle_kind::pipe;
    if (S_ISREG(status.st_mode)) return handle_kind::file;
    return handle_kind::descriptor;
  }
  const int domain = detail::socket_option(fd, SO_DOMAIN);
  if (domain == AF_INET || domain == AF_INET6) {
    const int protocol = detail::socket_option(fd, SO_PROTOCOL);
    if (type == SOCK_DGRAM && protocol == IPPROTO_UDP) return handle_kind::udp_socket;
    if (type != SOCK_STREAM || protocol != IPPROTO_TCP) return handle_kind::descriptor;
    return detail::socket_option(fd, SO_ACCEPTCONN) == 1 ? handle_kind::tcp_acceptor : handle_kind::tcp_socket;
  }
  if (domain == AF_UNIX && type == SOCK_DGRAM) return handle_kind::local_datagram;
  if (domain == AF_UNIX && type == SOCK_STREAM) {
    return detail::socket_option(fd, SO_ACCEPTCONN) == 1 ? handle_kind::local_acceptor : handle_kind::local_socket;
  }
  return handle_kind::descriptor;
}

}  // namespace cohort
