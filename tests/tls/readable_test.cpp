// SPDX-License-Identifier: BSL-1.0
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "tls_scene.hpp"

namespace cohort::test::tls_readable_test {
namespace {

using asio::ip::tcp;

asio::awaitable<char> read_one(tls_stream& stream) {
  char one = 0;
  co_await stream.async_read_some(asio::buffer(&one, 1), asio::use_awaitable);
  co_return one;
}

asio::awaitable<void> write(tls_stream& stream, std::string_view text) {
  while (!text.empty()) {
    const auto written = co_await stream.async_write_some(asio::buffer(text.data(), text.size()), asio::use_awaitable);
    text.remove_prefix(written);
  }
}

/// Bytes that TLS has written for this end so far.
std::uint64_t written_by(tls_stream& stream) { return BIO_number_written(SSL_get_wbio(stream.native_handle())); }

/// What server and client say to each other outside of the connection: so that all that the client has sent is in the
/// server's socket before the server reads any of it.
struct meeting {
  bool server_ready = false;
  std::optional<std::uint64_t> sent;

  asio::awaitable<void> wait_server() {
    const bool ready = co_await eventually([this] { return server_ready; });
    REQUIRE(ready);
  }

  asio::awaitable<void> accept(tls_stream& stream) {
    co_await stream.async_handshake(tls_stream::server, asio::use_awaitable);
    server_ready = true;
    const bool all_there = co_await eventually([&] { return sent && stream.next_layer().available() == *sent; });
    REQUIRE(all_there);
  }
};

ASYNC_TEST("a worker that drains knows of a request that TLS has read from the socket, decrypted or not") {
  const auto context = make_server_context();
  meeting both;
  std::vector<char> got;
  std::vector<bool> more;
  const connection_handler handler = [&](tcp::socket socket, worker& self) -> asio::awaitable<void> {
    tls_stream stream(std::move(socket), *context);
    co_await both.accept(stream);
    self.drain("with requests in the buffers");
    for (int i = 0; i < 3; ++i) {
      const char one = co_await read_one(stream);
      got.push_back(one);
      CHECK(stream.next_layer().available() == 0);
      if (i == 0) CHECK(SSL_pending(stream.native_handle()) == 1);  // the rest of the first record
      if (i == 1) CHECK(SSL_pending(stream.native_handle()) == 0);  // and the second one, as it came
      const bool there_is_more = co_await self.readable(stream);
      more.push_back(there_is_more);
    }
  };
  tls_scene at(co_await asio::this_coro::executor, handler);
  co_await at.start();
  const auto client = co_await at.connect_tls();
  co_await both.wait_server();
  const auto before = written_by(*client);
  co_await write(*client, "ab");
  co_await write(*client, "c");
  both.sent = written_by(*client) - before;
  const int status = co_await at.ended();
  CHECK(status == 0);
  CHECK(got == std::vector<char>{'a', 'b', 'c'});
  CHECK(more == std::vector<bool>{true, true, false});
}

ASYNC_TEST("a record of TLS that brings no bytes is no request") {
  const auto context = make_server_context();
  meeting both;
  std::optional<bool> more;
  const connection_handler handler = [&](tcp::socket socket, worker& self) -> asio::awaitable<void> {
    tls_stream stream(std::move(socket), *context);
    co_await both.accept(stream);
    const char one = co_await read_one(stream);
    CHECK(one == 'r');
    CHECK(BIO_ctrl_pending(SSL_get_rbio(stream.native_handle())) > 0);
    self.drain("with a record in the buffer");
    more = co_await self.readable(stream);
  };
  tls_scene at(co_await asio::this_coro::executor, handler);
  co_await at.start();
  const auto client = co_await at.connect_tls();
  co_await both.wait_server();
  const auto before = written_by(*client);
  co_await write(*client, "r");
  REQUIRE(SSL_key_update(client->native_handle(), SSL_KEY_UPDATE_NOT_REQUESTED) == 1);
  co_await client->async_handshake(tls_stream::client, asio::use_awaitable);  // which sends it
  both.sent = written_by(*client) - before;
  const int status = co_await at.ended();
  CHECK(status == 0);
  CHECK(more == false);
}

ASYNC_TEST("the end of the stream in the buffer of TLS is for its reader to find") {
  const auto context = make_server_context();
  meeting both;
  std::optional<bool> more;
  std::error_code end;
  const connection_handler handler = [&](tcp::socket socket, worker& self) -> asio::awaitable<void> {
    tls_stream stream(std::move(socket), *context);
    co_await both.accept(stream);
    const char one = co_await read_one(stream);
    CHECK(one == 'r');
    self.drain("with the end in the buffer");
    more = co_await self.readable(stream);
    end = co_await error_of(read_one(stream));
  };
  tls_scene at(co_await asio::this_coro::executor, handler);
  co_await at.start();
  const auto client = co_await at.connect_tls();
  co_await both.wait_server();
  const auto before = written_by(*client);
  co_await write(*client, "r");
  // Not the socket's end, which the socket would show: only a close_notify, as the first half of a shutdown.
  asio::co_spawn(client->get_executor(), client->async_shutdown(asio::use_awaitable), asio::detached);
  const bool written =
      co_await eventually([&] { return (SSL_get_shutdown(client->native_handle()) & SSL_SENT_SHUTDOWN) != 0; });
  CHECK(written);
  both.sent = written_by(*client) - before;
  const int status = co_await at.ended();
  CHECK(status == 0);
  CHECK(more == true);
  CHECK(end == std::error_code(detail::asio_error(asio::error::eof)));
}

ASYNC_TEST("what a client does wrong in TLS ends its connection, and not the worker") {
  const auto context = make_server_context();
  int served = 0, failed = 0;
  const connection_handler handler = [&](tcp::socket socket, worker&) -> asio::awaitable<void> {
    const auto note = std::shared_ptr<void>(nullptr, [&](void*) { ++failed; });
    tls_stream stream(std::move(socket), *context);
    co_await stream.async_handshake(tls_stream::server, asio::use_awaitable);
    co_await read_one(stream);
    ++served;
    --failed;
  };
  tls_scene at(co_await asio::this_coro::executor, handler);
  co_await at.start();

  auto plain = co_await at.connect();
  plain.write_some(asio::buffer("GET / HTTP/1.1\r\n\r\n", 18));
  const bool refused = co_await eventually([&] { return failed == 1; });
  CHECK(refused);
  {
    const auto rude = co_await at.connect_tls();
  }  // closes without a word of TLS
  const bool truncated = co_await eventually([&] { return failed == 2; });
  CHECK(truncated);

  const auto good = co_await at.connect_tls();
  co_await write(*good, "x");
  const bool answered = co_await eventually([&] { return served == 1; });
  CHECK(answered);
  at.drain();
  const int status = co_await at.ended();
  CHECK(status == 0);
}

}  // namespace
}  // namespace cohort::test::tls_readable_test
