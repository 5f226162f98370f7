// SPDX-License-Identifier: BSL-1.0
/// The other side of the connections: clients that talk in lines to `serve_lines` (tests/verbs/line_server.hpp).
#pragma once

#include <cstddef>
#include <string>
#include <system_error>
#include <utility>

#include "../../include/cohort/core/asio.hpp"
#include "../../include/cohort/core/error.hpp"
#include "../support/harness.hpp"

namespace cohort::test {

/// A connection, to a tcp or a local endpoint. What goes wrong with it is a text, "(closed)" or "(reset)", so that a
/// test can say what it expects.
template <class Protocol>
class basic_client {
 public:
  static constexpr const char* closed = "(closed)";
  static constexpr const char* reset = "(reset)";

  explicit basic_client(const asio::any_io_executor& executor) : socket_(executor) {}

  typename Protocol::socket& socket() noexcept { return socket_; }

  /// Throws what connect(2) says.
  static asio::awaitable<basic_client> connect(typename Protocol::endpoint to) {
    basic_client result(co_await asio::this_coro::executor);
    co_await result.socket_.async_connect(to, detail::awaited);
    co_return result;
  }

  /// Writes a line; an error shows up when the answer is read.
  void say(const std::string& line) {
    detail::asio_error ignored;
    const std::string text = line + '\n';
    socket_.write_some(asio::buffer(text), ignored);
  }

  asio::awaitable<std::string> line() {
    for (;;) {
      const auto end = buffer_.find('\n');
      if (end != std::string::npos) {
        std::string result = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        co_return result;
      }
      char piece[512];
      detail::asio_error error;
      const auto size =
          co_await socket_.async_read_some(asio::buffer(piece), asio::redirect_error(asio::use_awaitable, error));
      if (error == asio::error::eof) co_return closed;
      if (error == asio::error::connection_reset) co_return reset;
      if (error) throw std::system_error(error, "client: read");
      buffer_.append(piece, size);
    }
  }

  asio::awaitable<std::string> ask(std::string request) {
    say(request);
    return line();
  }

  void close() {
    detail::asio_error ignored;
    socket_.close(ignored);
  }

  /// Closes so that the other side gets a reset.
  void close_hard() {
    detail::asio_error ignored;
    const linger hard{1, 0};
    ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    socket_.close(ignored);
  }

 private:
  typename Protocol::socket socket_;
  std::string buffer_;
};

using client = basic_client<asio::ip::tcp>;
using local_client = basic_client<asio::local::stream_protocol>;

/// One connection for one request: the answer, or "(closed)", "(reset)", "(refused)".
template <class Endpoint>
asio::awaitable<std::string> ask_once(Endpoint to, std::string request) {
  basic_client<typename Endpoint::protocol_type> one(co_await asio::this_coro::executor);
  detail::asio_error error;
  co_await one.socket().async_connect(to, asio::redirect_error(asio::use_awaitable, error));
  if (error == asio::error::connection_refused) co_return "(refused)";
  if (error == asio::error::connection_reset) co_return client::reset;
  if (error) throw std::system_error(error, "client: connect");
  one.say(request);
  co_return co_await one.line();
}

}  // namespace cohort::test
