// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "message.hpp"

#include "../../core/config.hpp"

#include <cerrno>
#include <utility>

#include <sys/socket.h>
#include <sys/stat.h>

#include "../../core/error.hpp"

namespace cohort {

namespace detail {

inline constexpr std::pair<node_handle_type, std::string_view> node_handle_names[] = {
    {node_handle_type::server, "net.Server"},
    {node_handle_type::socket, "net.Socket"},
    {node_handle_type::datagram, "dgram.Socket"},
    {node_handle_type::native, "net.Native"},
    {node_handle_type::native_datagram, "dgram.Native"},
};

/// What Node makes of a descriptor: it looks at the family and the type, and not at the protocol.
enum class node_kind : std::uint8_t { none, stream, datagram, fifo };

inline node_kind node_kind_of(int fd) noexcept {
  const int type = socket_option(fd, SO_TYPE);
  if (type == -1) {
    struct stat status{};
    return ::fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode) ? node_kind::fifo : node_kind::none;
  }
  const int domain = domain_of(fd);
  const bool internet = domain == AF_INET || domain == AF_INET6;
  if (type == SOCK_STREAM && (internet || domain == AF_UNIX)) return node_kind::stream;
  return type == SOCK_DGRAM && internet ? node_kind::datagram : node_kind::none;
}

inline bool is_connected(int fd) noexcept {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  return ::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
}

inline bool listens(int fd) noexcept { return socket_option(fd, SO_ACCEPTCONN) == 1; }

}  // namespace detail

COHORT_INLINE std::string_view to_string(node_handle_type type) noexcept {
  for (const auto& [each, name] : detail::node_handle_names) {
    if (each == type) return name;
  }
  return "unknown";
}

COHORT_INLINE std::optional<node_handle_type> node_handle_type_of(std::string_view name) noexcept {
  for (const auto& [type, each] : detail::node_handle_names) {
    if (each == name) return type;
  }
  return std::nullopt;
}

COHORT_INLINE node_handle_type node_handle_type_for(int fd) {
  if (fd < 0) throw_error("node handle: not open", EBADF);
  switch (detail::node_kind_of(fd)) {
    case detail::node_kind::stream:
      if (detail::listens(fd)) return node_handle_type::server;
      if (detail::is_connected(fd)) return node_handle_type::socket;
      throw_error("node handle: a stream socket that neither listens nor is connected", errc::wrong_handle_kind);
    case detail::node_kind::datagram: return node_handle_type::datagram;
    case detail::node_kind::fifo: return node_handle_type::native;
    case detail::node_kind::none: break;
  }
  throw_error("node handle: Node takes no " + std::string(to_string(kind_of(fd))), errc::wrong_handle_kind);
}

COHORT_INLINE void check_node_handle(int fd, node_handle_type type) {
  using detail::node_kind;
  if (fd < 0) throw_error("node handle: not open", EBADF);
  const auto kind = detail::node_kind_of(fd);
  bool fits = false;
  switch (type) {
    case node_handle_type::server: fits = kind == node_kind::stream && !detail::is_connected(fd); break;
    case node_handle_type::socket: fits = kind == node_kind::stream && detail::is_connected(fd); break;
    case node_handle_type::native: fits = kind != node_kind::none; break;
    case node_handle_type::datagram:
    case node_handle_type::native_datagram: fits = kind == node_kind::datagram; break;
  }
  if (fits) return;
  throw_error("node handle: a " + std::string(to_string(kind_of(fd))) + " is no " + std::string(to_string(type)),
              errc::wrong_handle_kind);
}

COHORT_INLINE bool is_node_internal(const json& value) {
  if (!value.is_object()) return false;
  const auto cmd = value.find("cmd");
  if (cmd == value.end() || !cmd->is_string()) return false;
  const auto& name = cmd->get_ref<const std::string&>();
  return name.size() > 5 && name.starts_with("NODE_");
}

}  // namespace cohort
