// SPDX-License-Identifier: BSL-1.0
// The least of HTTP, so that curl can ask; ../http_cluster.cpp does it properly.
#pragma once

#include <string>
#include <string_view>

#include <fmt/format.h>
#include <unistd.h>

#include <asio/read_until.hpp>
#include <asio/write.hpp>
#include <cohort/core/asio.hpp>

/// Reads one request and answers who is here.
inline asio::awaitable<void> answer(asio::ip::tcp::socket socket, std::string_view who) {
  std::string request;
  co_await asio::async_read_until(socket, asio::dynamic_buffer(request, 8192), "\r\n\r\n", asio::use_awaitable);
  const std::string body = fmt::format("{}, pid {}\n", who, ::getpid());
  const std::string reply = fmt::format("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body);
  co_await asio::async_write(socket, asio::buffer(reply), asio::use_awaitable);
}
