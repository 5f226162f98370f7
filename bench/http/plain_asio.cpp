// SPDX-License-Identifier: BSL-1.0
// What the HTTP benchmark measures http_cluster against: processes with a socket of SO_REUSEPORT each, and nothing but
// Asio's coroutines and the same reading of requests. They know of no reload, no drain and no restart.
//
//   http_plain_asio WORKERS

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <system_error>

#include <netinet/tcp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fmt/format.h>

#include <cohort/core/asio.hpp>

#include "../../examples/http.hpp"

using asio::awaitable;
using asio::buffer;
using asio::use_awaitable;
using asio::ip::tcp;

awaitable<void> serve_connection(tcp::socket socket, std::string_view who) {
  http::request_parser request;
  std::array<char, 8192> bytes;
  std::string output;
  bool close = false, no_delay = false;
  socket.non_blocking(true);
  while (!close) {
    std::error_code error;
    std::string_view input(bytes.data(), socket.read_some(buffer(bytes), error));
    if (error == asio::error::would_block) {
      co_await socket.async_wait(tcp::socket::wait_read, use_awaitable);
      continue;
    }
    if (error) co_return;
    while (!close && request.parse(input)) {
      const http::answer answer{HTTP_STATUS_OK, who};
      close = !request.keep_alive();
      http::append(output, request, answer, close);
    }
    if (request.failed()) co_return;
    if (!output.empty()) co_await http::write(socket, output);
    if (!close && !no_delay) {
      socket.set_option(tcp::no_delay(true));
      no_delay = true;
    }
  }
}

tcp::acceptor bind(asio::io_context& context, std::uint16_t port) {
  tcp::acceptor result(context, tcp::v4());
  const int on = 1;
  if (::setsockopt(result.native_handle(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0 ||
      ::setsockopt(result.native_handle(), IPPROTO_TCP, TCP_DEFER_ACCEPT, &on, sizeof on) != 0) {
    throw std::system_error(errno, std::system_category(), "setsockopt");
  }
  result.bind(tcp::endpoint(asio::ip::address_v4::loopback(), port));
  return result;
}

awaitable<void> accept(tcp::acceptor& acceptor, std::string_view who) {
  for (;;) {
    tcp::socket socket = co_await acceptor.async_accept(use_awaitable);
    asio::co_spawn(acceptor.get_executor(), serve_connection(std::move(socket), who), [](std::exception_ptr) {});
  }
}

void work(int number, std::uint16_t port) {
  const std::string who = fmt::format("handled by worker {}, pid {}\n", number, ::getpid());
  asio::io_context context(1);
  tcp::acceptor acceptor = bind(context, port);
  acceptor.listen(4096);
  fmt::print("worker {} ready, pid {}\n", number, ::getpid());
  std::fflush(stdout);
  asio::co_spawn(context, accept(acceptor, who), asio::detached);
  context.run();
}

int main(int argc, char* argv[]) {
  const int workers = argc > 1 ? std::atoi(argv[1]) : 2;
  asio::io_context context(1);
  const tcp::acceptor reserved = bind(context, 0);  // does not listen: it keeps the port for the workers
  const std::uint16_t port = reserved.local_endpoint().port();
  for (int i = 1; i <= workers; ++i) {
    if (::fork() != 0) continue;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    work(i, port);
  }
  fmt::print("listening on 127.0.0.1:{}\n", port);
  std::fflush(stdout);
  ::pause();
}
