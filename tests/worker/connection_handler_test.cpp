// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/worker/connection_handler.hpp"

#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include <sys/socket.h>

#include "../../include/cohort/ipc/channel_pair.hpp"
#include "../../include/cohort/worker/options.hpp"
#include "../../include/cohort/worker/parent_channel.hpp"
#include "../../include/cohort/worker/worker.hpp"
#include "../../include/cohort/ipc/channel_pair.hpp"
#include "../support/harness.hpp"

namespace cohort::test::connection_handler_test {
namespace {

using asio::ip::tcp;
using asio::local::stream_protocol;
using generic_socket = asio::generic::stream_protocol::socket;

any_handle socket_of(int domain, handle_kind kind) {
  return any_handle(kind, descriptor(::socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0)));
}
any_handle tcp_socket() { return socket_of(AF_INET6, handle_kind::tcp_socket); }
any_handle local_socket() { return socket_of(AF_UNIX, handle_kind::local_socket); }

/// A worker that is only there to be passed on.
struct scene {
  explicit scene(const asio::any_io_executor& executor)
      : ends(make_channel_pair()), self(executor, {executor, std::move(ends.second)}, &none, worker_options()) {}
  static asio::awaitable<void> none(tcp::socket, worker&) { co_return; }
  std::pair<descriptor, descriptor> ends;
  worker self;
};

/// Calls a handler, and says what domain its socket has had.
asio::awaitable<std::string> called(const connection_handler& handler, any_handle with, std::string& said) {
  const auto executor = co_await asio::this_coro::executor;
  scene at(executor);
  said.clear();
  try {
    co_await handler(std::move(with), executor, at.self);
  } catch (const std::system_error& error) {
    said = error.what();
  }
  co_return said;
}

ASYNC_TEST("a handler takes the sockets that its parameter says") {
  std::string said;
  const auto note = [&](const char* type, auto& socket) {
    const int domain = detail::domain_of(socket.native_handle());
    said = std::string(type) + (domain == AF_UNIX ? " local" : " tcp");
  };
  const connection_handler only_tcp = [&](tcp::socket socket, worker&) -> asio::awaitable<void> {
    note("tcp::socket", socket);
    co_return;
  };
  const connection_handler only_local = [&](stream_protocol::socket socket, worker&) -> asio::awaitable<void> {
    note("local::socket", socket);
    co_return;
  };
  const connection_handler any = [&](generic_socket socket, worker&) -> asio::awaitable<void> {
    note("generic::socket", socket);
    co_return;
  };
  CHECK(only_tcp.takes(handle_kind::tcp_socket));
  CHECK_FALSE(only_tcp.takes(handle_kind::local_socket));
  CHECK_FALSE(only_tcp.takes(handle_kind::tcp_acceptor));
  CHECK_FALSE(only_local.takes(handle_kind::tcp_socket));
  CHECK(only_local.takes(handle_kind::local_socket));
  CHECK(any.takes(handle_kind::tcp_socket));
  CHECK(any.takes(handle_kind::local_socket));

  auto text = co_await called(only_tcp, tcp_socket(), said);
  CHECK(text == "tcp::socket tcp");
  text = co_await called(only_local, local_socket(), said);
  CHECK(text == "local::socket local");
  text = co_await called(any, tcp_socket(), said);
  CHECK(text == "generic::socket tcp");
  text = co_await called(any, local_socket(), said);
  CHECK(text == "generic::socket local");

  text = co_await called(only_tcp, local_socket(), said);
  CHECK(text == "handle: wanted a tcp socket, got a local socket: the handle is of another kind");
  text = co_await called(only_local, tcp_socket(), said);
  CHECK(text == "handle: wanted a local socket, got a tcp socket: the handle is of another kind");
}

ASYNC_TEST("a handler with two forms gets each connection in its own") {
  struct both {
    std::string& said;
    asio::awaitable<void> operator()(tcp::socket, worker&) {
      said = "tcp";
      co_return;
    }
    asio::awaitable<void> operator()(stream_protocol::socket, worker&) {
      said = "local";
      co_return;
    }
  };
  std::string said;
  const connection_handler handler = both{said};
  auto text = co_await called(handler, tcp_socket(), said);
  CHECK(text == "tcp");
  text = co_await called(handler, local_socket(), said);
  CHECK(text == "local");
}

ASYNC_TEST("a handler may be a function, a std::function, or a lambda that changes what it holds") {
  std::string said;
  const std::function<asio::awaitable<void>(tcp::socket, worker&)> function = [&](tcp::socket,
                                                                                  worker&) -> asio::awaitable<void> {
    said = "std::function";
    co_return;
  };
  auto text = co_await called(function, tcp_socket(), said);
  CHECK(text == "std::function");
  const connection_handler pointer = &scene::none;
  text = co_await called(pointer, tcp_socket(), said);
  CHECK(text.empty());
  const connection_handler counting = [&said, calls = 0](generic_socket, worker&) mutable -> asio::awaitable<void> {
    said = std::to_string(++calls);
    return []() -> asio::awaitable<void> { co_return; }();
  };
  text = co_await called(counting, tcp_socket(), said);
  CHECK(text == "1");
  text = co_await called(counting, local_socket(), said);
  CHECK(text == "2");
}

struct not_copyable {
  std::unique_ptr<int> state;
  asio::awaitable<void> operator()(tcp::socket, worker&) const { co_return; }
};

static_assert(!std::is_constructible_v<connection_handler, int>);
static_assert(!std::is_constructible_v<connection_handler, not_copyable>);
static_assert(!std::is_constructible_v<connection_handler, void (*)(tcp::socket, worker&)>);
static_assert(!std::is_constructible_v<connection_handler, asio::awaitable<void> (*)(asio::ip::udp::socket, worker&)>);
static_assert(!std::is_constructible_v<connection_handler, asio::awaitable<void> (*)(tcp::socket)>);
static_assert(std::is_copy_constructible_v<connection_handler>);

}  // namespace
}  // namespace cohort::test::connection_handler_test
