// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "endpoint.hpp"

#include "../core/config.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <system_error>

#include <netdb.h>
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
    } else if (host == "*") {
      const descriptor probe(system::call.socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
      if (probe || errno != EAFNOSUPPORT) address = asio::ip::address_v6::any();
    } else if (!host.empty()) {
      address = asio::ip::make_address_v4(host, error);
    }
  }
  if (!good || error) throw_error(fmt::format("listen {}: want ADDRESS:PORT", text), errc::invalid_option);
  return {address, port};
}

namespace detail {

/// A name, and nothing that is to be a number: getaddrinfo(3) takes 127.1 for an address.
COHORT_INLINE bool is_host_name(std::string_view host) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto fits = [&](char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'; };
  return std::all_of(host.begin(), host.end(), fits) && std::any_of(host.begin(), host.end(), is_letter);
}

COHORT_INLINE std::vector<asio::ip::address> resolve_addresses(const std::string& host, const std::string& text) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* found = nullptr;
  const int failure = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (failure == EAI_SYSTEM) throw_error(fmt::format("listen {}: look up {}", text, host), errno);
  if (failure != 0) {
    throw_error(fmt::format("listen {}: look up {}: {}", text, host, ::gai_strerror(failure)), errc::invalid_option);
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, &::freeaddrinfo);
  std::vector<asio::ip::address> result;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    asio::ip::tcp::endpoint one;
    if (each->ai_addrlen > one.capacity()) continue;
    std::memcpy(one.data(), each->ai_addr, each->ai_addrlen);
    if (std::find(result.begin(), result.end(), one.address()) == result.end()) result.push_back(one.address());
  }
  return result;
}

}  // namespace detail

COHORT_INLINE std::vector<std::string> expand_endpoint(const std::string& text) {
  const auto colon = text.rfind(':');
  const std::string whole = colon == text.npos ? "*:" + text : text;
  const std::string host = whole.substr(0, whole.rfind(':')), port = whole.substr(host.size());
  const bool named = detail::is_host_name(host);
  std::uint16_t number = 0;
  try {
    number = parse_endpoint(named ? "*" + port : whole).port();
  } catch (const std::system_error& error) {
    const auto wanted = "want ADDRESS:PORT, NAME:PORT, *:PORT or PORT, and an IPv6 address in brackets";
    throw_error(fmt::format("listen {}: {}", text, wanted), error.code());
  }
  if (!named) return {whole};
  std::vector<std::string> result;
  for (const auto& each : detail::resolve_addresses(host, text)) {
    result.push_back(to_string(asio::ip::tcp::endpoint(each, number)));
  }
  return result;
}

COHORT_INLINE descriptor open_listener(asio::ip::tcp::endpoint& endpoint, const listen_settings& settings) {
  descriptor result = detail::open_socket(endpoint);
  detail::set_option(result, endpoint, SOL_SOCKET, SO_REUSEADDR);
  if (settings.reuse_port) detail::set_option(result, endpoint, SOL_SOCKET, SO_REUSEPORT);
  if (settings.defer_accept) detail::set_option(result, endpoint, IPPROTO_TCP, TCP_DEFER_ACCEPT);
  detail::set_v6_only(result, endpoint, settings.v6_only);
  detail::bind(result, endpoint);
  detail::check_listening(endpoint, system::call.listen(result.get(), settings.backlog));
  detail::read_name(result, endpoint);
  return result;
}

COHORT_INLINE descriptor open_datagram_socket(asio::ip::udp::endpoint& endpoint, const listen_settings& settings) {
  descriptor result = detail::open_socket(endpoint);
  if (settings.reuse_port) detail::set_option(result, endpoint, SOL_SOCKET, SO_REUSEPORT);
  detail::set_v6_only(result, endpoint, settings.v6_only);
  detail::bind(result, endpoint);
  detail::read_name(result, endpoint);
  return result;
}

}  // namespace cohort
