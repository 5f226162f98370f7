// SPDX-License-Identifier: BSL-1.0
// What the source and its clients say to each other: lines of text.
//
//   GET          VERSION VALUE
//   VERSION      VERSION
//   WATCH        VERSION at once, at each change, and again each second: so its silence means that it is gone
//   SET VALUE    VERSION, the new one
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include <asio/buffer.hpp>
#include <asio/read_until.hpp>
#include <asio/write.hpp>
#include <cohort/core/asio.hpp>

class line_socket {
 public:
  static constexpr std::size_t longest = 4096;
  static constexpr std::chrono::seconds heartbeat{1};

  explicit line_socket(asio::ip::tcp::socket socket) : socket_(std::move(socket)) {}
  explicit line_socket(const asio::any_io_executor& executor) : socket_(executor) {}

  asio::awaitable<void> connect(asio::ip::tcp::endpoint to) { return socket_.async_connect(to, asio::use_awaitable); }

  /// Without its end. Throws what ends the connection, asio::error::eof for one.
  asio::awaitable<std::string> read() {
    const auto size =
        co_await asio::async_read_until(socket_, asio::dynamic_buffer(read_, longest), '\n', asio::use_awaitable);
    std::string line = read_.substr(0, size - 1);
    read_.erase(0, size);
    co_return line;
  }

  asio::awaitable<void> write(std::string line) {
    line += '\n';
    co_await asio::async_write(socket_, asio::buffer(line), asio::use_awaitable);
  }

 private:
  asio::ip::tcp::socket socket_;
  std::string read_;  // and not yet returned
};
