// SPDX-License-Identifier: BSL-1.0
// An echo server of several processes, to begin with: copy this folder, and replace what is between read and write.
#include <array>
#include <string>

#include <asio/write.hpp>
#include <cohort/cluster/serve.hpp>

asio::awaitable<void> echo(asio::ip::tcp::socket socket, cohort::worker& self) {
  std::array<char, 4096> data;
  while (true) {
    const bool more = co_await self.readable(socket);
    if (!more) co_return;  // the worker drains, and this connection is idle
    const auto size = co_await socket.async_read_some(asio::buffer(data), asio::use_awaitable);
    co_await asio::async_write(socket, asio::buffer(data, size), asio::use_awaitable);
  }
}

int main(int argc, char** argv) {
  cohort::cluster_options options;
  options.listen = {argc > 1 ? std::string(argv[1]) : "127.0.0.1:7000"};
  options.workers = 2;
  return cohort::serve(options, echo);
}
