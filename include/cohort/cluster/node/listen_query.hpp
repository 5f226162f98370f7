// SPDX-License-Identifier: BSL-1.0
/// What a worker of Node's cluster protocol wants to listen on, and the socket for it.
#pragma once

#include <string>
#include <system_error>

#include "../../core/descriptor.hpp"
#include "../../ipc/node/json.hpp"
#include "../../net/unix_listener.hpp"

namespace cohort::node_cluster {

/// The message `queryServer`.
struct listen_query {
  enum class kind {
    tcp,         ///< an address and a port
    udp,         ///< the same, for datagrams
    local,       ///< a path, or a name that begins with a NUL
    descriptor,  ///< a listening socket that the primary was started with
  };

  kind what = kind::tcp;
  std::string key;      ///< of what workers share if they ask for the same
  std::string address;  ///< empty: all addresses, IPv6 and IPv4 where there are both
  int port = 0;
  bool six = false;  ///< IPv6
  int fd = -1;
  int flags = 0;  ///< 1: IPv6 alone; 4: SO_REUSEADDR for datagrams
  int backlog = 511;
  bool readable_all = false;  ///< permissions of a socket file
  bool writable_all = false;
  json data;  ///< what the workers of one key share: the ticket keys of TLS
};

/// Reads the fields of a message. Throws errc::malformed for one that no worker sends.
listen_query parse_listen_query(const json& message);

/// A socket that was opened for a worker.
struct opened_server {
  descriptor socket;
  std::string address;      ///< `127.0.0.1:8000`, `unix:/run/app.sock`, `udp:127.0.0.1:53`
  json sockname;  ///< what server.address() is in the worker; null but for TCP
  socket_file file;
};

/// Opens what a query asks for: bound, and listening if `listening` and it is no UDP socket. A socket file that nobody
/// accepts at any more is replaced. Throws the errno of what has failed.
opened_server open_server(const listen_query& query, bool listening);

/// The same for a socket that is open already, which a predecessor has handed over.
opened_server adopt_server(const listen_query& query, descriptor socket);

/// The number that a worker expects in `errno`: negative.
int errno_of(const std::system_error& error) noexcept;

}  // namespace cohort::node_cluster

#ifndef COHORT_SEPARATE_COMPILATION
#include "listen_query.ipp"
#endif
