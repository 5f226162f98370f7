// SPDX-License-Identifier: BSL-1.0
/// TCP and UDP addresses as text, and listening sockets made of them.
#pragma once

#include <cerrno>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include <netinet/in.h>
#include <sys/socket.h>

#include "../core/asio.hpp"
#include "../core/descriptor.hpp"
#include "../core/error.hpp"
#include "../core/system.hpp"

namespace cohort {

/// `127.0.0.1:8000`, `[::1]:8000`.
std::string to_string(const asio::ip::tcp::endpoint& endpoint);

/// `udp:127.0.0.1:5353`.
std::string to_string(const asio::ip::udp::endpoint& endpoint);

/// Reads `ADDRESS:PORT` with a numeric address: an IPv6 one in brackets, none for all of IPv4, `*` for all of IPv6 and
/// IPv4 (of IPv4 alone where the kernel has no IPv6). Throws errc::invalid_option with the text.
asio::ip::tcp::endpoint parse_endpoint(const std::string& text);

/// What parse_endpoint() reads, for an address that may also be a port alone, `8000` for `*:8000`, or have a host name:
/// `localhost:8000` becomes one text for each address of the name, of the families that this machine has addresses of
/// (AI_ADDRCONFIG, getaddrinfo(3)). Asks as the machine resolves names, and waits for the answer.
///
/// Throws errc::invalid_option with the text and, for a name, why it has no address.
std::vector<std::string> expand_endpoint(const std::string& text);

/// How a listening socket is made.
struct listen_settings {
  int backlog = 4096;
  bool reuse_port = false;    ///< SO_REUSEPORT
  bool defer_accept = false;  ///< TCP_DEFER_ACCEPT
  /// IPV6_V6ONLY: whether `[::]` leaves IPv4 to others. Default: as net.ipv6.bindv6only says.
  std::optional<bool> v6_only;
};

namespace detail {

template <class Endpoint>
[[noreturn]] void throw_listen_error(const Endpoint& endpoint) {
  const int error = errno;  // first, because Asio clears it when it makes the text
  throw_error("listen " + cohort::to_string(endpoint), error);
}

template <class Endpoint>
void check_listening(const Endpoint& endpoint, int result) {
  if (result != 0) throw_listen_error(endpoint);
}

template <class Endpoint>
descriptor open_socket(const Endpoint& endpoint) {
  const int family = endpoint.address().is_v6() ? AF_INET6 : AF_INET;
  const int type = endpoint.protocol().type();
  descriptor result(system::call.socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!result) throw_listen_error(endpoint);
  return result;
}

template <class Endpoint>
void set_option(const descriptor& socket, const Endpoint& endpoint, int level, int option) {
  const int on = 1;
  check_listening(endpoint, ::setsockopt(socket.get(), level, option, &on, sizeof on));
}

template <class Endpoint>
void set_v6_only(const descriptor& socket, const Endpoint& endpoint, std::optional<bool> wanted) {
  if (!wanted || !endpoint.address().is_v6()) return;
  const int value = *wanted ? 1 : 0;
  check_listening(endpoint, ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &value, sizeof value));
}

template <class Endpoint>
void bind(const descriptor& socket, const Endpoint& endpoint) {
  check_listening(endpoint, system::call.bind(socket.get(), endpoint.data(), static_cast<socklen_t>(endpoint.size())));
}

/// Reads the port that the kernel has chosen.
template <class Endpoint>
void read_name(const descriptor& socket, Endpoint& endpoint) {
  socklen_t size = static_cast<socklen_t>(endpoint.capacity());
  check_listening(endpoint, ::getsockname(socket.get(), endpoint.data(), &size));
}

}  // namespace detail

/// Binds and listens. On port 0 the kernel chooses one, and `endpoint` has it afterwards.
///
/// Throws `listen 127.0.0.1:8000: Address already in use` and its like.
descriptor open_listener(asio::ip::tcp::endpoint& endpoint, const listen_settings& settings);

/// Binds a UDP socket; otherwise as open_listener(), of whose settings only `reuse_port` is for it.
descriptor open_datagram_socket(asio::ip::udp::endpoint& endpoint, const listen_settings& settings);

/// Throws as open_listener() does if somebody listens there. SO_REUSEPORT alone would let a server that is started
/// twice join itself unnoticed.
template <class Endpoint>
void check_unused(Endpoint endpoint, std::optional<bool> v6_only = std::nullopt) {
  const descriptor probe = detail::open_socket(endpoint);
  // UDP lets sockets with this option share an address.
  constexpr bool datagrams = std::is_same_v<Endpoint, asio::ip::udp::endpoint>;
  if constexpr (!datagrams) detail::set_option(probe, endpoint, SOL_SOCKET, SO_REUSEADDR);
  detail::set_v6_only(probe, endpoint, v6_only);
  detail::bind(probe, endpoint);
}

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "endpoint.ipp"
#endif
