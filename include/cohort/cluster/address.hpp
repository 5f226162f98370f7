// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <fmt/format.h>

#include "../core/asio.hpp"
#include "../core/descriptor.hpp"
#include "../core/error.hpp"
#include "../core/system.hpp"

namespace cohort {

/// `127.0.0.1:8000`, `[::1]:8000`.
inline std::string to_string(const asio::ip::tcp::endpoint& endpoint) {
  const auto address = endpoint.address().to_string();
  return endpoint.address().is_v6() ? fmt::format("[{}]:{}", address, endpoint.port())
                                    : fmt::format("{}:{}", address, endpoint.port());
}

/// Reads `ADDRESS:PORT` with a numeric address (an IPv6 one in brackets, none for all of IPv4). Throws
/// errc::invalid_option with the text.
inline asio::ip::tcp::endpoint parse_endpoint(const std::string& text) {
  const auto colon = text.rfind(':');
  std::uint16_t port = 0;
  std::error_code error;
  asio::ip::address address = asio::ip::address_v4::any();
  bool good = colon != std::string::npos;
  if (good) {
    const char* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + colon + 1, end, port);
    std::string host = text.substr(0, colon);
    good = parsed.ec == std::errc() && parsed.ptr == end;
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
      address = asio::ip::make_address_v6(host.substr(1, host.size() - 2), error);
    } else if (!host.empty()) {
      address = asio::ip::make_address_v4(host, error);
    }
  }
  if (!good || error) throw_error(fmt::format("listen {}: want ADDRESS:PORT", text), errc::invalid_option);
  return {address, port};
}

/// How a listening socket is made.
struct listen_settings {
  int backlog = 4096;
  bool reuse_port = false;    ///< SO_REUSEPORT
  bool defer_accept = false;  ///< TCP_DEFER_ACCEPT
};

namespace detail {

[[noreturn]] inline void throw_listen_error(const asio::ip::tcp::endpoint& endpoint) {
  const int error = errno;  // first, because Asio clears it when it makes the text
  throw_error("listen " + cohort::to_string(endpoint), error);
}

}  // namespace detail

/// Binds and listens. On port 0 the kernel chooses one, and `endpoint` has it afterwards.
///
/// Throws `listen 127.0.0.1:8000: Address already in use` and its like.
inline descriptor open_listener(asio::ip::tcp::endpoint& endpoint, const listen_settings& settings) {
  const auto check = [&](int result) {
    if (result != 0) detail::throw_listen_error(endpoint);
  };
  const auto set = [&](int fd, int level, int option, int value) {
    check(::setsockopt(fd, level, option, &value, sizeof value));
  };
  const int family = endpoint.address().is_v6() ? AF_INET6 : AF_INET;
  descriptor result(system::call.socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!result) detail::throw_listen_error(endpoint);
  set(result.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (settings.reuse_port) set(result.get(), SOL_SOCKET, SO_REUSEPORT, 1);
  if (settings.defer_accept) set(result.get(), IPPROTO_TCP, TCP_DEFER_ACCEPT, 1);
  check(system::call.bind(result.get(), endpoint.data(), static_cast<socklen_t>(endpoint.size())));
  check(system::call.listen(result.get(), settings.backlog));
  socklen_t size = static_cast<socklen_t>(endpoint.capacity());
  check(::getsockname(result.get(), endpoint.data(), &size));
  return result;
}

/// Throws as open_listener() does if somebody listens there. SO_REUSEPORT alone would let a server that is started
/// twice join itself unnoticed.
inline void check_unused(asio::ip::tcp::endpoint endpoint) {
  const int family = endpoint.address().is_v6() ? AF_INET6 : AF_INET;
  const int on = 1;
  const descriptor probe(system::call.socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!probe || ::setsockopt(probe.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      system::call.bind(probe.get(), endpoint.data(), static_cast<socklen_t>(endpoint.size())) != 0) {
    detail::throw_listen_error(endpoint);
  }
}

}  // namespace cohort
