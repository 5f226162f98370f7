// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "open_listeners.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <iterator>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/socket.h>

#include <fmt/format.h>

namespace cohort {

namespace detail {

COHORT_INLINE distribution distribution_for(handle_kind kind, distribution wanted) noexcept {
  if (kind == handle_kind::udp_socket) return wanted == distribution::reuse_port ? wanted : distribution::shared;
  const bool local = kind == handle_kind::local_acceptor;
  return local && wanted == distribution::reuse_port ? distribution::shared : wanted;
}

COHORT_INLINE std::string address_of(int fd, handle_kind kind) {
  const auto read = [fd](auto endpoint) {
    socklen_t size = static_cast<socklen_t>(endpoint.capacity());
    if (::getsockname(fd, endpoint.data(), &size) != 0)
      throw_error(fmt::format("listen fd:{}: getsockname", fd), errno);
    endpoint.resize(size);
    return cohort::to_string(endpoint);
  };
  if (kind == handle_kind::local_acceptor) return read(asio::local::stream_protocol::endpoint());
  return read(asio::ip::tcp::endpoint());
}

COHORT_INLINE listen_settings settings_for(const std::string& text, distribution how, const cluster_options& options) {
  listen_settings settings;
  settings.backlog = options.backlog;
  settings.defer_accept = options.defer_accept;
  settings.reuse_port = how == distribution::reuse_port;
  settings.v6_only = text.find('*') == text.npos ? options.ipv6_only : false;
  return settings;
}

/// A TCP listener, or a UDP socket: for distribution::reuse_port as many as there are workers.
template <class Endpoint>
opened_listener listen_at(Endpoint endpoint, const std::string& text, distribution how,
                          const cluster_options& options) {
  const auto open = [](Endpoint& at, const listen_settings& settings) {
    if constexpr (std::is_same_v<Endpoint, asio::ip::udp::endpoint>) {
      return open_datagram_socket(at, settings);
    } else {
      return open_listener(at, settings);
    }
  };
  opened_listener result;
  result.text = text;
  result.distribution = how;
  const listen_settings settings = settings_for(text, how, options);
  if (settings.reuse_port && endpoint.port() != 0) check_unused(endpoint, settings.v6_only);
  do {
    result.sockets.push_back(open(endpoint, settings));
  } while (settings.reuse_port && result.sockets.size() < options.worker_count());
  result.address = cohort::to_string(endpoint);
  if (settings.reuse_port) {
    result.open_one_more = [open, endpoint, settings]() mutable { return open(endpoint, settings); };
  }
  return result;
}

COHORT_INLINE asio::ip::udp::endpoint parse_udp_endpoint(const std::string& text) {
  const auto endpoint = parse_endpoint(text.substr(4));
  return {endpoint.address(), endpoint.port()};
}

COHORT_INLINE opened_listener listen_local(const std::string& text, distribution how, const cluster_options& options) {
  const auto endpoint = parse_unix_endpoint(text);
  socket_rights rights(options.socket_mode);
  rights.user = options.socket_user;
  rights.group = options.socket_group;
  auto opened = open_unix_listener(endpoint, options.backlog, rights);
  opened_listener result;
  result.text = text;
  result.address = cohort::to_string(endpoint);
  result.sockets.push_back(std::move(opened.socket));
  result.distribution = distribution_for(handle_kind::local_acceptor, how);
  result.file = std::move(opened.file);
  return result;
}

COHORT_INLINE std::vector<inherited_socket> find_inherited(const std::string& text, inherited_sockets& inherited,
                                                           const std::vector<opened_listener>& others) {
  const std::string name = text.substr(3);
  int number = -1;
  const char* const end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end) return inherited.take(name);

  auto found = inherited.take(number);
  if (!found.empty()) return found;
  // One that came by other means than LISTEN_FDS, and has no other owner here as far as can be known.
  for (const auto& other : others) {
    for (const auto& socket : other.sockets) {
      if (socket.get() == number) throw_error(fmt::format("listen {}: listed twice", text), errc::invalid_option);
    }
  }
  if (number < 3 || ::fcntl(number, F_SETFD, FD_CLOEXEC) == -1) return found;
  found.push_back({std::string(), number, kind_of(number), descriptor()});
  const auto kind = found.front().kind;
  if (kind == handle_kind::tcp_acceptor || kind == handle_kind::local_acceptor) found.front().socket.reset(number);
  return found;
}

COHORT_INLINE std::vector<opened_listener> listen_inherited(const std::string& text, distribution wanted,
                                                            const cluster_options& options,
                                                            inherited_sockets& inherited,
                                                            const std::vector<opened_listener>& others) {
  std::vector<opened_listener> result;
  for (auto& each : find_inherited(text, inherited, others)) {
    if (each.kind != handle_kind::tcp_acceptor && each.kind != handle_kind::local_acceptor) {
      throw_error(fmt::format("listen {}: fd {} is a {}, want a listening socket", text, each.number,
                              cohort::to_string(each.kind)),
                  errc::wrong_handle_kind);
    }
    const auto how = distribution_for(each.kind, wanted);
    std::string address = address_of(each.socket.get(), each.kind);
    // Those of one address are the sockets of one listener.
    auto at =
        std::find_if(result.begin(), result.end(), [&](const opened_listener& one) { return one.address == address; });
    if (how != distribution::reuse_port || at == result.end()) {
      at = result.emplace(result.end());
      at->text = text;
      at->address = std::move(address);
      at->distribution = how;
      at->inherited = true;
    }
    at->sockets.push_back(std::move(each.socket));
  }
  if (result.empty()) throw_error(fmt::format("listen {}: no such socket was inherited", text), errc::invalid_option);
  for (const auto& each : result) {
    if (each.distribution == distribution::reuse_port && each.sockets.size() < options.worker_count()) {
      throw_error(fmt::format("listen {}: {} inherited for {}, and reuse_port wants one for each of {} workers", text,
                              each.sockets.size(), each.address, options.worker_count()),
                  errc::invalid_option);
    }
  }
  return result;
}

/// Each address that the options name, with a host name as what it stands for now.
COHORT_INLINE std::vector<listen_address> expand(const std::vector<listen_address>& wanted) {
  std::vector<listen_address> result;
  for (const auto& each : wanted) {
    if (each.text.starts_with("fd:") || each.text.starts_with("unix:")) {
      result.push_back(each);
      continue;
    }
    const std::string prefix = each.text.starts_with("udp:") ? "udp:" : "";
    for (auto& text : expand_endpoint(each.text.substr(prefix.size()))) {
      result.emplace_back(prefix + text, each.distribution);
    }
  }
  return result;
}

COHORT_INLINE std::vector<opened_listener> take_over(const listen_address& wanted, const cluster_options& options,
                                                     std::vector<upgrade::listener>& handed) {
  std::vector<opened_listener> result;
  const bool many = wanted.text.starts_with("fd:");
  for (auto at = handed.begin(); at != handed.end() && (many || result.empty());) {
    if (at->text != wanted.text) {
      ++at;
      continue;
    }
    opened_listener one;
    one.text = at->text;
    one.address = at->address;
    one.inherited = at->inherited;
    one.handed_file = at->file;
    for (auto& each : at->sockets) {
      one.sockets.push_back(std::move(each).make(asio::system_executor()));
    }
    const auto kind = kind_of(one.sockets.front().get());
    one.distribution = distribution_for(kind, wanted.distribution.value_or(options.distribution));
    if (one.distribution == distribution::reuse_port && !many) {
      const auto settings = settings_for(one.text, one.distribution, options);
      one.open_one_more = [address = one.address, udp = kind == handle_kind::udp_socket, settings]() {
        if (udp) {
          auto endpoint = parse_udp_endpoint(address);
          return open_datagram_socket(endpoint, settings);
        }
        auto endpoint = parse_endpoint(address);
        return open_listener(endpoint, settings);
      };
    }
    result.push_back(std::move(one));
    at = handed.erase(at);
  }
  return result;
}

}  // namespace detail

COHORT_INLINE std::vector<opened_listener> open_listeners(const cluster_options& options,
                                                          std::vector<upgrade::listener> handed) {
  if (options.listen.empty()) throw_error("cluster: no address to listen on", errc::invalid_option);
  const auto is_inherited = [](const listen_address& each) { return each.text.starts_with("fd:"); };
  inherited_sockets inherited;
  if (std::any_of(options.listen.begin(), options.listen.end(), is_inherited)) {
    inherited = inherited_sockets::from_environment();
  }
  std::vector<opened_listener> result;
  for (const auto& each : detail::expand(options.listen)) {
    const auto how = each.distribution.value_or(options.distribution);
    if (how == distribution::custom && !options.picker) {
      throw_error(fmt::format("listen {}: no picker for distribution::custom", each.text), errc::invalid_option);
    }
    auto taken = detail::take_over(each, options, handed);
    if (!taken.empty()) {
      std::move(taken.begin(), taken.end(), std::back_inserter(result));
    } else if (is_inherited(each)) {
      auto found = detail::listen_inherited(each.text, how, options, inherited, result);
      std::move(found.begin(), found.end(), std::back_inserter(result));
    } else if (each.text.starts_with("unix:")) {
      result.push_back(detail::listen_local(each.text, how, options));
    } else if (each.text.starts_with("udp:")) {
      const auto fitting = detail::distribution_for(handle_kind::udp_socket, how);
      result.push_back(detail::listen_at(detail::parse_udp_endpoint(each.text), each.text, fitting, options));
    } else {
      result.push_back(detail::listen_at(parse_endpoint(each.text), each.text, how, options));
    }
  }
  for (const auto& each : inherited.all()) {
    throw_error(fmt::format("listen: nobody listens on the inherited fd {} ({})", each.number, each.name),
                errc::invalid_option);
  }
  return result;
}

}  // namespace cohort
