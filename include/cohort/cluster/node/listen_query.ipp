// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "listen_query.hpp"

#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <fmt/format.h>

#include "../../core/asio.hpp"
#include "../../core/asio_error.hpp"
#include "../../core/config.hpp"
#include "../../core/error.hpp"
#include "../../core/system.hpp"
#include "../../ipc/handle.hpp"
#include "../../net/endpoint.hpp"
#include "message.hpp"

namespace cohort::node_cluster {

namespace detail {



/// What JavaScript makes of a member in a template string.
COHORT_INLINE std::string js_text(const json& message, const char* name) {
  const auto at = message.find(name);
  if (at == message.end()) return "undefined";
  return at->is_string() ? at->get<std::string>() : at->dump();
}

COHORT_INLINE int integer_of(const json& message, const char* name, int otherwise) {
  const json& value = member_of(message, name);
  if (!value.is_number()) return otherwise;  // false, null and nothing are all used
  const double number = value.get<double>();
  if (!(number >= -1e9 && number <= 1e9)) throw_error(fmt::format("queryServer: {}", name), errc::malformed);
  return static_cast<int>(number);
}

COHORT_INLINE bool is_true(const json& message, const char* name) {
  const json& value = member_of(message, name);
  return value.is_boolean() && value.get<bool>();
}

[[noreturn]] COHORT_INLINE void fail_listen(const std::string& where, int error) {
  throw_error("listen " + where, error);
}

/// A socket of an address as workers name it.
template <class Endpoint>
Endpoint endpoint_of(const listen_query& query) {
  cohort::detail::asio_error error;
  const auto address = query.address.empty()
                           ? asio::ip::address(asio::ip::address_v6::any())
                           : asio::ip::make_address(query.address, error);
  if (error || query.port < 0 || query.port > 65535) {
    fail_listen(fmt::format("{}:{}", query.address, query.port), EINVAL);
  }
  return Endpoint(address, static_cast<std::uint16_t>(query.port));
}

template <class Endpoint>
descriptor bind_to(const Endpoint& where, const listen_query& query) {
  const bool datagrams = query.what == listen_query::kind::udp;
  descriptor socket = cohort::detail::open_socket(where);
  if (!datagrams || (query.flags & 4) != 0) cohort::detail::set_option(socket, where, SOL_SOCKET, SO_REUSEADDR);
  if (where.address().is_v6()) {
    const int alone = query.flags & 1;
    ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &alone, sizeof alone);
  }
  cohort::detail::bind(socket, where);
  return socket;
}

template <class Endpoint>
descriptor bind_server(const listen_query& query) {
  auto where = endpoint_of<Endpoint>(query);
  if (!query.address.empty()) return bind_to(where, query);
  if (query.what == listen_query::kind::udp) {
    if (!query.six) where.address(asio::ip::address_v4::any());
    return bind_to(where, query);
  }
  try {
    return bind_to(where, query);
  } catch (const std::system_error& error) {
    const int number = error.code().value();
    if (number != EAFNOSUPPORT && number != EADDRNOTAVAIL && number != EINVAL) throw;
  }
  where.address(asio::ip::address_v4::any());  // a machine without IPv6
  return bind_to(where, query);
}

template <class Endpoint>
Endpoint name_of(const descriptor& socket) {
  Endpoint where;
  socklen_t size = static_cast<socklen_t>(where.capacity());
  if (::getsockname(socket.get(), where.data(), &size) != 0) fail_listen("getsockname", errno);
  where.resize(size);
  return where;
}

COHORT_INLINE void name_tcp(opened_server& server) {
  const auto where = name_of<asio::ip::tcp::endpoint>(server.socket);
  server.address = cohort::to_string(where);
  server.sockname = {{"address", where.address().to_string()},
                     {"family", where.address().is_v6() ? "IPv6" : "IPv4"},
                     {"port", where.port()}};
}

/// Adds the permissions that the worker wants everybody to have.
COHORT_INLINE void widen(const socket_file& file, const listen_query& query) {
  struct stat now {};
  if (file.path().empty() || (!query.readable_all && !query.writable_all)) return;
  mode_t more = 0;
  if (query.readable_all) more |= S_IRUSR | S_IRGRP | S_IROTH;
  if (query.writable_all) more |= S_IWUSR | S_IWGRP | S_IWOTH;
  const bool good = ::stat(file.path().c_str(), &now) == 0 &&
                    ::chmod(file.path().c_str(), (now.st_mode & 07777) | more) == 0;
  if (!good) fail_listen(file.path(), errno);
}

/// A copy of a listening socket that this process was started with: one that is close-on-exec is its own.
COHORT_INLINE descriptor copy_inherited(int number) {
  const int flags = number < 0 ? -1 : ::fcntl(number, F_GETFD);
  const auto where = fmt::format("fd:{}", number);
  if (flags == -1 || (flags & FD_CLOEXEC) != 0) fail_listen(where, EBADF);
  const auto kind = kind_of(number);
  if (kind != handle_kind::tcp_acceptor && kind != handle_kind::local_acceptor) fail_listen(where, EINVAL);
  descriptor copy(::fcntl(number, F_DUPFD_CLOEXEC, 3));
  if (!copy) fail_listen(where, errno);
  return copy;
}

}  // namespace detail

COHORT_INLINE listen_query parse_listen_query(const json& message) {
  using detail::member_of;
  listen_query result;
  result.key = fmt::format("{}:{}:{}:{}:{}", detail::js_text(message, "address"), detail::js_text(message, "port"),
                           detail::js_text(message, "addressType"), detail::js_text(message, "fd"),
                           detail::js_text(message, "index"));
  constexpr std::size_t longest_key = 1024;
  if (result.key.size() > longest_key) throw_error("queryServer: address", errc::malformed);
  const auto& address = member_of(message, "address");
  if (address.is_string()) result.address = address.get<std::string>();
  const auto& type = member_of(message, "addressType");
  result.port = detail::integer_of(message, "port", 0);
  result.fd = detail::integer_of(message, "fd", -1);
  result.flags = detail::integer_of(message, "flags", 0);
  const int backlog = detail::integer_of(message, "backlog", 0);
  if (backlog > 0) result.backlog = backlog;
  result.readable_all = detail::is_true(message, "readableAll");
  result.writable_all = detail::is_true(message, "writableAll");
  result.data = member_of(message, "data");
  if (type.is_string()) {
    const auto& text = type.get_ref<const std::string&>();
    if (text != "udp4" && text != "udp6") throw_error("queryServer: addressType " + text, errc::malformed);
    result.what = listen_query::kind::udp;
    result.six = text == "udp6";
  } else if (result.fd >= 0) {
    result.what = listen_query::kind::descriptor;
  } else if (type.is_number() && type == -1) {
    result.what = listen_query::kind::local;
  } else {
    result.six = type.is_number() && type == 6;
  }
  return result;
}

COHORT_INLINE opened_server open_server(const listen_query& query, bool listening) {
  opened_server result;
  switch (query.what) {
    case listen_query::kind::udp:
      return adopt_server(query, detail::bind_server<asio::ip::udp::endpoint>(query));
    case listen_query::kind::tcp:
      result = adopt_server(query, detail::bind_server<asio::ip::tcp::endpoint>(query));
      break;
    case listen_query::kind::descriptor:
      result = adopt_server(query, detail::copy_inherited(query.fd));
      break;
    case listen_query::kind::local: {
      if (query.address.empty()) detail::fail_listen("a path", EINVAL);
      const bool abstract = query.address.front() == '\0';
      const auto where = parse_unix_endpoint("unix:" + (abstract ? "@" + query.address.substr(1) : query.address));
      auto opened = open_unix_listener(where, query.backlog);
      detail::widen(opened.file, query);
      result.socket = std::move(opened.socket);
      result.file = std::move(opened.file);
      result.address = cohort::to_string(where);
      return result;
    }
  }
  if (listening && system::call.listen(result.socket.get(), query.backlog) != 0) {
    detail::fail_listen(result.address, errno);
  }
  return result;
}

COHORT_INLINE opened_server adopt_server(const listen_query& query, descriptor socket) {
  opened_server result;
  result.socket = std::move(socket);
  if (query.what == listen_query::kind::udp) {
    result.address = cohort::to_string(detail::name_of<asio::ip::udp::endpoint>(result.socket));
  } else if (cohort::detail::domain_of(result.socket.get()) == AF_UNIX) {
    result.address = cohort::to_string(detail::name_of<asio::local::stream_protocol::endpoint>(result.socket));
  } else {
    detail::name_tcp(result);
  }
  return result;
}

COHORT_INLINE int errno_of(const std::system_error& error) noexcept {
  const auto& category = error.code().category();
  const bool is_errno = category == std::system_category() || category == std::generic_category();
  return -(is_errno && error.code().value() > 0 ? error.code().value() : EINVAL);
}

}  // namespace cohort::node_cluster
