// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>
#include <type_traits>
#include <utility>

#include "../core/asio.hpp"
#include "../ipc/handle.hpp"

namespace cohort {

class worker;

namespace detail {

template <class Handler, class Socket>
concept serves_socket = std::is_invocable_r_v<asio::awaitable<void>, Handler&, Socket, worker&>;

template <class Handler>
inline constexpr bool serves_tcp = serves_socket<Handler, asio::ip::tcp::socket>;

template <class Handler>
inline constexpr bool serves_local = serves_socket<Handler, asio::local::stream_protocol::socket>;

}  // namespace detail

/// Serves one connection: `asio::awaitable<void> handle(asio::ip::tcp::socket socket, cohort::worker& self)`.
///
/// Made from any copyable function object. The socket that it takes says which connections it serves:
/// `asio::ip::tcp::socket`, `asio::local::stream_protocol::socket` (from `unix:` addresses), or
/// `asio::generic::stream_protocol::socket`, which either becomes. It runs in a coroutine of its own and owns the
/// socket; the connection has ended when it returns.
class connection_handler {
 public:
  template <class Handler>
  requires(detail::serves_tcp<Handler> || detail::serves_local<Handler>) connection_handler(Handler handler)
      : takes_tcp_(detail::serves_tcp<Handler>),
        takes_local_(detail::serves_local<Handler>),
        serve_([handler = std::move(handler)](any_handle socket, const asio::any_io_executor& executor,
                                              worker& self) mutable -> asio::awaitable<void> {
          using asio::local::stream_protocol;
          if constexpr (!detail::serves_tcp<Handler>) {
            return handler(std::move(socket).as<stream_protocol::socket>(executor), self);
          } else {
            if constexpr (detail::serves_local<Handler>) {
              const bool local = socket.kind() == handle_kind::local_socket;
              if (local) return handler(std::move(socket).as<stream_protocol::socket>(executor), self);
            }
            return handler(std::move(socket).as<asio::ip::tcp::socket>(executor), self);
          }
        }) {}

  /// Whether it takes a handle_kind::tcp_socket, or a handle_kind::local_socket.
  bool takes(handle_kind kind) const noexcept {
    return (kind == handle_kind::tcp_socket && takes_tcp_) || (kind == handle_kind::local_socket && takes_local_);
  }

  /// Calls it with the socket that it wants. Throws errc::wrong_handle_kind for one that it does not take.
  asio::awaitable<void> operator()(any_handle socket, const asio::any_io_executor& executor, worker& self) const {
    return serve_(std::move(socket), executor, self);
  }

 private:
  bool takes_tcp_, takes_local_;
  std::function<asio::awaitable<void>(any_handle, const asio::any_io_executor&, worker&)> serve_;
};

}  // namespace cohort
