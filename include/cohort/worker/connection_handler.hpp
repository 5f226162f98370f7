// SPDX-License-Identifier: BSL-1.0
/// What serves the connections of a worker.
///
/// The worker owns a copy, and calls it on its executor.
#pragma once

#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>

#include "../core/asio.hpp"
#include "../core/descriptor.hpp"

namespace cohort {

class any_handle;
class worker;
enum class handle_kind : std::uint8_t;

namespace detail {

template <class Handler, class Socket>
concept serves_socket = std::is_invocable_r_v<asio::awaitable<void>, Handler&, Socket, worker&>;

template <class Handler>
inline constexpr bool serves_tcp = serves_socket<Handler, asio::ip::tcp::socket>;

template <class Handler>
inline constexpr bool serves_local = serves_socket<Handler, asio::local::stream_protocol::socket>;

/// Says what is wrong with a function that is no connection_handler.
template <class Handler>
constexpr void refuse_handler() {
  constexpr bool is_called = std::is_invocable_v<Handler&, asio::ip::tcp::socket, worker&> ||
                             std::is_invocable_v<Handler&, asio::local::stream_protocol::socket, worker&>;
  constexpr bool is_handler = serves_tcp<Handler> || serves_local<Handler>;
  static_assert(is_called,
                "cohort: a handler takes the socket by value and the worker by reference: "
                "asio::awaitable<void> handle(asio::ip::tcp::socket socket, cohort::worker& self)");
  static_assert(!is_called || is_handler,
                "cohort: a handler is a coroutine that returns asio::awaitable<void>: "
                "asio::awaitable<void> handle(asio::ip::tcp::socket socket, cohort::worker& self)");
  static_assert(!is_handler, "cohort: the worker keeps a copy of its handler: make it copyable");
}

asio::ip::tcp::socket make_tcp_socket(const asio::any_io_executor& executor, descriptor fd);
asio::local::stream_protocol::socket make_local_socket(const asio::any_io_executor& executor, descriptor fd);

}  // namespace detail

/// Serves one connection: `asio::awaitable<void> handle(asio::ip::tcp::socket socket, cohort::worker& self)`.
///
/// Made from any copyable function object. The socket that it takes says which connections it serves:
/// `asio::ip::tcp::socket`, `asio::local::stream_protocol::socket` (from `unix:` addresses), or
/// `asio::generic::stream_protocol::socket`, which either becomes. It runs in a coroutine of its own and owns the
/// socket; the connection has ended when it returns.
///
/// What is no handler is no connection_handler either. serve() and run_worker() take it all the same, for a compile
/// error that says what is wrong with it.
class connection_handler {
 public:
  template <class Handler>
    requires((detail::serves_tcp<Handler> || detail::serves_local<Handler>) && std::is_copy_constructible_v<Handler>)
  connection_handler(Handler handler)  // NOLINT(google-explicit-constructor)
      : takes_tcp_(detail::serves_tcp<Handler>),
        takes_local_(detail::serves_local<Handler>),
        serve_([handler = std::move(handler)](bool local, descriptor fd, const asio::any_io_executor& executor,
                                              worker& self) mutable -> asio::awaitable<void> {
          if constexpr (!detail::serves_tcp<Handler>) {
            return handler(detail::make_local_socket(executor, std::move(fd)), self);
          } else {
            if constexpr (detail::serves_local<Handler>) {
              if (local) return handler(detail::make_local_socket(executor, std::move(fd)), self);
            }
            return handler(detail::make_tcp_socket(executor, std::move(fd)), self);
          }
        }) {}

  /// Whether it takes a handle_kind::tcp_socket, or a handle_kind::local_socket.
  bool takes(handle_kind kind) const noexcept;

  /// Calls it with the socket that it wants. Throws errc::wrong_handle_kind for one that it does not take.
  asio::awaitable<void> operator()(any_handle socket, const asio::any_io_executor& executor, worker& self) const;

 private:
  bool takes_tcp_, takes_local_;
  std::function<asio::awaitable<void>(bool local, descriptor, const asio::any_io_executor&, worker&)> serve_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "connection_handler.ipp"
#endif
