// SPDX-License-Identifier: BSL-1.0
// What the workers share: taking connections from the router, and answering one request on each. (The next one on the
// same connection might be for another host, and so for another worker.)
#pragma once

#include <array>
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include <cohort/core/task_group.hpp>
#include <cohort/core/timeout.hpp>
#include <cohort/ipc/peer.hpp>

#include "../http.hpp"
#include "protocol.hpp"

using body_for = std::string (*)(const http::request_parser&);

inline asio::awaitable<void> answer(http::tcp::socket socket, std::string read, body_for body) {
  http::request_parser request;
  std::array<char, 4096> bytes;
  std::string_view input = read;
  bool complete = request.parse(input);
  while (!complete && !request.failed()) {
    const auto size = co_await socket.async_read_some(asio::buffer(bytes), asio::use_awaitable);
    input = std::string_view(bytes.data(), size);
    complete = request.parse(input);
  }
  std::string text, output;
  if (complete) text = body(request);
  const http::answer reply = complete ? http::answer{HTTP_STATUS_OK, text} : http::bad_request(request);
  http::append(output, request, reply, true);
  socket.non_blocking(true);
  co_await http::write(socket, output);
  co_await http::end(socket, true);
}

/// Answers until the router disconnects or is gone, and then what is still under way.
inline asio::awaitable<void> serve(body_for body) {
  const auto executor = co_await asio::this_coro::executor;
  auto router = cohort::parent<protocol>(executor);
  cohort::task_group answers(executor);
  while (auto given = co_await router.receive_handle()) {
    auto socket = std::move(given->handle).as<http::tcp::socket>(executor);
    auto work =
        cohort::with_timeout(answer(std::move(socket), std::move(given->message.read), body), std::chrono::seconds(5));
    answers.start(std::move(work), [&router](std::exception_ptr failure) {
      try {
        if (failure) std::rethrow_exception(failure);
        router.post(answered());
      } catch (const std::system_error&) {
        // The client has left, or was too slow; or the router is gone, which receive_handle() says, too.
      }
    });
  }
  co_await answers.wait_empty();
  co_await router.disconnect();
}

inline int run(const char* name, body_for body) {
  try {
    asio::io_context context(1);
    asio::co_spawn(context, serve(body), [](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
    context.run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", name, error.what());
    return 1;
  }
  return 0;
}
