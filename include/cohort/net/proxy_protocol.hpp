// SPDX-License-Identifier: BSL-1.0
/// The PROXY protocol, versions 1 and 2, as a server receives it: who the client of a proxy is, said before the first
/// byte of the connection (`send-proxy` and `send-proxy-v2` of HAProxy, `proxy_protocol on` of nginx's stream module,
/// the network load balancers of AWS, https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt).
///
/// A handler reads the header from the socket that it owns, on the executor that it runs on.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "../core/asio.hpp"
#include "../core/asio_error.hpp"
#include "../core/timeout.hpp"

namespace cohort {

/// The types of the additions (TLVs) of version 2 that the protocol names. Others may come too.
namespace proxy_tlv {

inline constexpr std::uint8_t alpn = 0x01, authority = 0x02, crc32c = 0x03, noop = 0x04, unique_id = 0x05, ssl = 0x20,
                              netns = 0x30;
inline constexpr std::uint8_t ssl_version = 0x21, ssl_common_name = 0x22, ssl_cipher = 0x23;  // inside `ssl`

}  // namespace proxy_tlv

/// What a proxy says about its client. Nothing here is verified: see read_proxy_header().
struct proxy_header {
  proxy_header() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  unsigned version = 0;
  /// The proxy has connected for itself, for a health check perhaps: there is no client, and nothing below is set.
  bool local = false;
  /// The addresses of the client's connection to the proxy. None when that was not of TCP, or the proxy does not know
  /// (UNKNOWN, UNSPEC): the protocol says to go on with the addresses of the socket then.
  std::optional<asio::ip::tcp::endpoint> source, destination;
  /// The paths of a client's connection by a local stream socket. An abstract name begins with a zero byte; empty:
  /// none.
  std::string source_path, destination_path;
  /// The additions (TLVs) of version 2, as they came, each of them whole. A checksum among them is not compared.
  std::string tlvs;

  /// The value of the first addition of a type, a part of `tlvs`; none if there is none.
  std::optional<std::string_view> tlv(std::uint8_t type) const& noexcept;
  void tlv(std::uint8_t type) const&& = delete;

  /// The same of those inside `ssl`, about the client's TLS: `ssl_tlv(proxy_tlv::ssl_common_name)`.
  std::optional<std::string_view> ssl_tlv(std::uint8_t type) const& noexcept;
  void ssl_tlv(std::uint8_t type) const&& = delete;
};

/// What read_proxy_header() puts up with.
struct proxy_header_options {
  proxy_header_options() {}  // user-declared: see proxy_header

  /// How long the whole header may take to come. The protocol wants 3 s at least, for a packet that is sent again.
  std::chrono::milliseconds timeout{5'000};
  /// The largest header of version 2, in bytes. One of version 1 has 107 at most, whatever this is.
  std::size_t max_size = 4096;
};

namespace detail {

/// Takes a header out of a socket, as it arrives, and nothing behind it. Distinct objects: safe. Shared objects:
/// unsafe.
class proxy_header_reader {
 public:
  explicit proxy_header_reader(const proxy_header_options& options) : options_(options) {}

  /// Takes what has arrived, without waiting; whether the header is complete now. Otherwise nothing is left to read,
  /// for a wait until there is more. Throws as read_proxy_header() does.
  bool read(int fd);

  /// What the header says, once it is complete.
  proxy_header header() const;

  /// Throws the exception that is being handled on; a time limit says what it was of.
  [[noreturn]] void rethrow() const;

 private:
  // What they have taken, or seen; 0: there is nothing.
  std::size_t receive_line(int fd);
  std::size_t receive_binary(int fd);
  std::size_t receive(int fd, char* to, std::size_t size, int flags) const;

  proxy_header_options options_;
  std::string bytes_;     // taken
  std::size_t size_ = 0;  // of the header, as far as it is known; 0: of a line, or of nothing yet
  bool complete_ = false;
};

template <class Socket>
asio::awaitable<void> read_rest(Socket& socket, proxy_header_reader& reader) {
  do {
    co_await socket.async_wait(Socket::wait_read, awaited);
  } while (!reader.read(socket.native_handle()));
}

}  // namespace detail

/// Reads the header of the PROXY protocol, of either version, with which a connection begins, and takes nothing that
/// comes after it. A handler calls this before anything else reads from the socket: before worker::readable(), which
/// would find the header, and before a handshake of TLS (`stream.next_layer()` is the socket).
///
///     const auto header = co_await cohort::read_proxy_header(socket);
///     const auto client = header.source ? *header.source : socket.remote_endpoint();
///
/// Call it for each connection of a listener, or for none: the protocol forbids to guess. Let only proxies reach such a
/// listener, because whoever reaches it can claim any address. The primary does not read the header:
/// distribution::by_address goes by the address of the proxy.
///
/// Does not wait if the whole header is there, as it is with cluster_options::defer_accept. In a drain, a connection
/// whose header has not come is busy and not idle, for no longer than the time limit.
///
/// Throws errc::bad_proxy_header with what is wrong, errc::timed_out when the header has not come in time, the end of
/// the stream (asio::error::eof) when that comes first, or what recvmsg(2) fails with. The first three, and a reset,
/// end the connection and not the worker if they leave the handler, and the worker does not report them: a handler that
/// wants them in a log catches them. Cancelling throws operation_aborted. After any exception a part of the header may
/// have been taken: close the socket.
template <class Protocol, class Executor>
asio::awaitable<proxy_header> read_proxy_header(asio::basic_stream_socket<Protocol, Executor>& socket,
                                                proxy_header_options options = proxy_header_options()) {
  detail::proxy_header_reader reader(options);
  if (!reader.read(socket.native_handle())) {
    try {
      co_await with_timeout(detail::read_rest(socket, reader), options.timeout);
    } catch (...) {
      reader.rethrow();
    }
  }
  co_return reader.header();
}

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "proxy_protocol.ipp"
#endif
