// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "../handle.hpp"
#include "json.hpp"

namespace cohort {

/// What a handle is at the Node end of a channel.
enum class node_handle_type : std::uint8_t {
  server,          ///< net.Server: a TCP or AF_UNIX stream socket, listening or bound. Node listens on it again.
  socket,          ///< net.Socket: a connected TCP or AF_UNIX stream socket. Nothing may have been read from it.
  datagram,        ///< dgram.Socket: a UDP socket
  native,          ///< net.Native: a bare TCP or Pipe object, which a FIFO is too
  native_datagram  ///< dgram.Native: a bare UDP object
};

/// Node's name: "net.Server"...
std::string_view to_string(node_handle_type type) noexcept;

/// The type of that name, if there is one.
std::optional<node_handle_type> node_handle_type_of(std::string_view name) noexcept;

/// What a descriptor is at the Node end, by what the kernel says of it: a listening socket is a server, a connected one
/// a socket, a UDP socket a datagram socket, a FIFO native.
///
/// Throws errc::wrong_handle_kind for everything else. A Node process would abort for a file, a terminal or /dev/null,
/// and would take no further handle after an eventfd or an AF_UNIX datagram socket.
node_handle_type node_handle_type_for(int fd);

/// Throws errc::wrong_handle_kind if a Node process that gets `fd` as `type` would fail.
void check_node_handle(int fd, node_handle_type type);

/// A handle that came over a Node channel.
struct node_handle {
  /// The descriptor and what the kernel says of it. Empty for a message without a handle.
  any_handle object;
  /// What the sender says that it is.
  node_handle_type type = node_handle_type::native;
  /// By which Node counts the sockets of one of its servers; empty for most.
  std::string key;

  explicit operator bool() const noexcept { return static_cast<bool>(object); }
};

/// A message as it came over a Node channel, with its handle if it had one.
struct node_message {
  json value;
  node_handle handle;
  /// Of a message of Node's cluster module: it came with a handle, for which this process had no descriptor.
  bool handle_lost = false;
};

/// Whether Node takes a message for one of its own: an object whose `cmd` is a string that begins with "NODE_" and is
/// longer.
bool is_node_internal(const json& value);

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "message.ipp"
#endif
