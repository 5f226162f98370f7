// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "endpoint.hpp"

#include "../core/config.hpp"

#include <charconv>
#include <cstdint>
#include <system_error>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <fmt/format.h>

#include "../core/asio_error.hpp"

namespace cohort {

COHORT_INLINE std::string to_string(const asio::ip::tcp::endpoint& endpoint) {
  const auto address = endpoint.address().to_string();
  return endpoint.address().is_v6() ? fmt::format("[{}]:{}", address, endpoint.port())
                                    : fmt::format("{}:{}", address, endpoint.port());
}

COHORT_INLINE std::string to_string(const asio::ip::udp::endpoint& endpoint) {
  return "udp:" + to_string(asio::ip::tcp::endpoint(endpoint.address(), endpoint.port()));
}

COHORT_INLINE asio::ip::tcp::endpoint parse_endpoint(const std::string& text) {
  const auto colon = text.rfind(':');
  std::uint16_t port = 0;
  detail::asio_error error;
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

COHORT_INLINE descriptor open_listener(asio::ip::tcp::endpoint& endpoint, const listen_settings& settings) {
  descriptor result = detail::open_socket(endpoint);
  detail::set_option(result, endpoint, SOL_SOCKET, SO_REUSEADDR);
  if (settings.reuse_port) detail::set_option(result, endpoint, SOL_SOCKET, SO_REUSEPORT);
  if (settings.defer_accept) detail::set_option(result, endpoint, IPPROTO_TCP, TCP_DEFER_ACCEPT);
  detail::bind(result, endpoint);
  detail::check_listening(endpoint, system::call.listen(result.get(), settings.backlog));
  detail::read_name(result, endpoint);
  return result;
}

COHORT_INLINE descriptor open_datagram_socket(asio::ip::udp::endpoint& endpoint, const listen_settings& settings) {
  descriptor result = detail::open_socket(endpoint);
  if (settings.reuse_port) detail::set_option(result, endpoint, SOL_SOCKET, SO_REUSEPORT);
  detail::bind(result, endpoint);
  detail::read_name(result, endpoint);
  return result;
}

}  // namespace cohort
