// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "distribution.hpp"

namespace cohort {

/// An address that a cluster listens on.
///
/// `127.0.0.1:8000`, `[::1]:8000`; `:8000` for all IPv4 addresses; `*:8000` or `8000` for all IPv4 and IPv6 addresses;
/// `[::]:8000` for the same or all IPv6 ones, see cluster_options::ipv6_only. With port 0 the kernel chooses a port.
///
/// `localhost:8000`: the name is looked up once, when the cluster starts, and each of its addresses is a listener of
/// its own (see expand_endpoint), of which all must be free.
///
/// `unix:/run/app.sock`, and `unix:@name` for an abstract name. The handler must take a local or a generic socket (see
/// connection_handler). A file at which no process accepts is replaced. The cluster removes its own file when it stops.
///
/// `udp:127.0.0.1:5353`: datagrams, for worker_options::serve_datagrams. With distribution::reuse_port each worker has
/// a socket of its own; else all workers have the same socket.
///
/// `fd:http`: every inherited socket of that name (see inherited_sockets). `fd:3`: the socket with that number, even if
/// the process got it by other means. The cluster owns the socket from then on. The socket stays as it was made:
/// backlog, defer_accept and socket_mode of the cluster do not apply. Connections that wait there when the cluster
/// stops are left to the next process that listens.
struct listen_address {
  listen_address(const char* address) : text(address) {}
  listen_address(std::string address, std::optional<cohort::distribution> how = std::nullopt)
      : text(std::move(address)), distribution(how) {}

  std::string text;
  std::optional<cohort::distribution> distribution;  ///< default: that of the cluster

  bool operator==(const listen_address&) const = default;
};

}  // namespace cohort
