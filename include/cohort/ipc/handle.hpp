// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <sys/socket.h>

#include "../core/asio.hpp"
#include "../core/asio_error.hpp"
#include "../core/descriptor.hpp"
#include "../core/error.hpp"
#include "codec/codec.hpp"

namespace cohort {

/// What a passed descriptor is. The receiver asks the kernel whether it is what the sender says.
enum class handle_kind : std::uint8_t {
  descriptor = 1,   ///< anything else: an eventfd, a terminal, a directory...
  tcp_acceptor = 2,
  tcp_socket = 3,
  udp_socket = 4,
  local_acceptor = 5,
  local_socket = 6,
  local_datagram = 7,
  pipe = 8,
  file = 9,         ///< a regular file, a memfd too
};

std::string_view to_string(handle_kind kind) noexcept;

namespace detail {

int socket_option(int fd, int option) noexcept;

}  // namespace detail

/// What the kernel says that `fd` is (SO_DOMAIN, SO_TYPE, SO_PROTOCOL, SO_ACCEPTCONN: socket(7); fstat(2)).
handle_kind kind_of(int fd) noexcept;

/// How an object that owns a descriptor travels. Specialise it for a class of your own:
/// `kind` (handle_kind::descriptor accepts any), `get(const T&)`, `release(T&)`, `make(executor, descriptor)`.
///
/// release() must take the descriptor out of the reactor and leave the object closed, as Asio's release() does.
template <class T>
struct handle_traits;

namespace detail {

inline int domain_of(int fd) noexcept { return socket_option(fd, SO_DOMAIN); }

template <class Socket, handle_kind Kind>
struct internet_handle {
  static constexpr handle_kind kind = Kind;
  static int get(Socket& socket) { return socket.native_handle(); }
  static descriptor release(Socket& socket) { return descriptor(socket.release()); }
  static Socket make(const asio::any_io_executor& executor, descriptor fd) {
    using protocol = typename Socket::protocol_type;
    Socket result(executor);
    assign(result, fd, domain_of(fd.get()) == AF_INET6 ? protocol::v6() : protocol::v4());
    return result;
  }
};

template <class Socket, handle_kind Kind>
struct local_handle {
  static constexpr handle_kind kind = Kind;
  static int get(Socket& socket) { return socket.native_handle(); }
  static descriptor release(Socket& socket) { return descriptor(socket.release()); }
  static Socket make(const asio::any_io_executor& executor, descriptor fd) {
    Socket result(executor);
    assign(result, fd, typename Socket::protocol_type());
    return result;
  }
};

}  // namespace detail

template <class Executor>
struct handle_traits<asio::basic_socket_acceptor<asio::ip::tcp, Executor>>
    : detail::internet_handle<asio::basic_socket_acceptor<asio::ip::tcp, Executor>, handle_kind::tcp_acceptor> {};

template <class Executor>
struct handle_traits<asio::basic_stream_socket<asio::ip::tcp, Executor>>
    : detail::internet_handle<asio::basic_stream_socket<asio::ip::tcp, Executor>, handle_kind::tcp_socket> {};

template <class Executor>
struct handle_traits<asio::basic_datagram_socket<asio::ip::udp, Executor>>
    : detail::internet_handle<asio::basic_datagram_socket<asio::ip::udp, Executor>, handle_kind::udp_socket> {};

template <class Executor>
struct handle_traits<asio::basic_socket_acceptor<asio::local::stream_protocol, Executor>>
    : detail::local_handle<asio::basic_socket_acceptor<asio::local::stream_protocol, Executor>,
                           handle_kind::local_acceptor> {};

template <class Executor>
struct handle_traits<asio::basic_stream_socket<asio::local::stream_protocol, Executor>>
    : detail::local_handle<asio::basic_stream_socket<asio::local::stream_protocol, Executor>,
                           handle_kind::local_socket> {};

template <class Executor>
struct handle_traits<asio::basic_datagram_socket<asio::local::datagram_protocol, Executor>>
    : detail::local_handle<asio::basic_datagram_socket<asio::local::datagram_protocol, Executor>,
                           handle_kind::local_datagram> {};

template <class Executor>
struct handle_traits<asio::posix::basic_stream_descriptor<Executor>> {
  using stream = asio::posix::basic_stream_descriptor<Executor>;
  static constexpr handle_kind kind = handle_kind::descriptor;
  static int get(stream& object) { return object.native_handle(); }
  static descriptor release(stream& object) { return descriptor(object.release()); }
  static stream make(const asio::any_io_executor& executor, descriptor fd) {
    stream result(executor);
    detail::assign(result, fd);
    return result;
  }
};

template <>
struct handle_traits<descriptor> {
  static constexpr handle_kind kind = handle_kind::descriptor;
  static int get(const descriptor& object) { return object.get(); }
  static descriptor release(descriptor& object) { return std::move(object); }
  static descriptor make(const asio::any_io_executor&, descriptor fd) { return fd; }
};

/// A descriptor that came from another process, with what it is.
///
/// Owns it until it is made into an object. Distinct objects: safe. Shared objects: unsafe.
class any_handle {
 public:
  any_handle() = default;
  any_handle(handle_kind kind, descriptor fd) noexcept : fd_(std::move(fd)), kind_(kind) {}

  handle_kind kind() const noexcept { return kind_; }
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

  /// The bare descriptor, still owned by the handle.
  int native_handle() const noexcept { return fd_.get(); }

  /// Makes it a T on `executor` (`asio::ip::tcp::socket`, `asio::ip::tcp::acceptor`...) and leaves the handle empty.
  ///
  /// Throws errc::wrong_handle_kind when it is something else; the handle then still holds it. `descriptor` and
  /// `asio::posix::stream_descriptor` accept every kind.
  template <class T>
  T as(const asio::any_io_executor& executor) && {
    check<T>();
    return handle_traits<T>::make(executor, std::move(fd_));
  }

  /// Throws errc::wrong_handle_kind if it could not be made a T.
  template <class T>
  void check() const {
    constexpr handle_kind wanted = handle_traits<T>::kind;
    if (fd_ && (wanted == handle_kind::descriptor || wanted == kind_)) return;
    throw_error("handle: wanted a " + std::string(to_string(wanted)) + ", got " +
                    (fd_ ? "a " + std::string(to_string(kind_)) : std::string("none")),
                errc::wrong_handle_kind);
  }

 private:
  descriptor fd_;
  handle_kind kind_ = handle_kind::descriptor;
};

/// A handle inside a message, which travels and returns with it: see channel::send().
///
///     struct route { std::string host; cohort::handle<asio::ip::tcp::socket> client; };
///
/// Owns the descriptor, outside of any reactor, until it is made into a T again. Distinct objects: safe. Shared objects:
/// unsafe.
template <class T>
class handle {
  using traits = handle_traits<T>;

 public:
  /// None; a message with such a one cannot be sent: EBADF. One that may be missing is a std::optional<handle<T>>.
  handle() = default;

  /// Takes over what `object` owns, and leaves it closed.
  handle(T&& object) {
    if constexpr (std::is_same_v<T, any_handle>) {
      held_ = std::move(object);
    } else if (traits::get(object) >= 0) {
      descriptor fd = traits::release(object);
      const auto kind = kind_of(fd.get());
      held_ = any_handle(kind, std::move(fd));
    }
  }

  /// A descriptor that came from somewhere else. Throws errc::wrong_handle_kind if it is not what a T needs.
  explicit handle(any_handle given) {
    given.check<T>();
    held_ = std::move(given);
  }

  explicit operator bool() const noexcept { return static_cast<bool>(held_); }
  handle_kind kind() const noexcept { return held_.kind(); }

  /// The bare descriptor, still owned by the handle.
  int native_handle() const noexcept { return held_.native_handle(); }

  /// Makes it a T on `executor` and leaves the handle empty. Throws errc::wrong_handle_kind if it is empty already.
  T make(const asio::any_io_executor& executor) && {
    if constexpr (std::is_same_v<T, any_handle>) {
      return std::move(held_);
    } else {
      return std::move(held_).template as<T>(executor);
    }
  }

 private:
  any_handle held_;
};

template <class T>
struct codec<handle<T>> {
  static constexpr std::size_t min_size = 1;

  static void encode(writer& out, const handle<T>& value) {
    if (!value) throw_error("encode: a handle that is not open", EBADF);
    out.put(static_cast<std::uint8_t>(value.kind()));
    out.handle(value.native_handle());
  }

  static void decode(reader& in, handle<T>& value) {
    const auto kind = static_cast<handle_kind>(in.get<std::uint8_t>());
    descriptor fd = in.handle();
    if (kind_of(fd.get()) != kind) throw_error("decode: handle", errc::wrong_handle_kind);
    value = handle<T>(any_handle(kind, std::move(fd)));
  }

  static constexpr std::uint64_t shape() {
    return detail::shape_of_kind(detail::kind::handle, handle_traits<T>::kind);
  }
};

/// A handle goes on as what it is, without asking the kernel again.
template <>
struct handle_traits<any_handle> {
  static constexpr handle_kind kind = handle_kind::descriptor;
  static int get(const any_handle& object) { return object.native_handle(); }
  static descriptor release(any_handle& object) { return std::move(object).as<descriptor>(asio::any_io_executor()); }
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "handle.ipp"
#endif
