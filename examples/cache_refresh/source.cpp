// SPDX-License-Identifier: BSL-1.0
// Where the caches of cache_refresh have their value from; in place of a database or a service. See lines.hpp.
//
//   cache_refresh_source [PORT [VALUE]]      printf 'SET blue\n' | nc -q 1 127.0.0.1 7001

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include <cohort/core/error.hpp>
#include <cohort/core/event.hpp>
#include <cohort/core/timeout.hpp>

#include "../http.hpp"
#include "lines.hpp"

using asio::awaitable;
using asio::use_awaitable;
using asio::ip::tcp;

class source {
 public:
  source(const asio::any_io_executor& executor, std::string value) : changed_(executor) { set(std::move(value)); }

  awaitable<void> serve(tcp::socket socket) {
    line_socket client(std::move(socket));
    for (;;) {
      const std::string line = co_await client.read();
      if (line == "WATCH") co_return co_await tell_changes(client);
      co_await client.write(answer(line));
    }
  }

 private:
  // The time of the change: a source that is started again cannot give another value a version that there was.
  void set(std::string value) {
    using namespace std::chrono;
    const auto now = duration_cast<microseconds>(system_clock::now().time_since_epoch()).count();
    version_ = std::max<std::uint64_t>(version_ + 1, static_cast<std::uint64_t>(now));
    value_ = std::move(value);
    changed_.notify();
  }

  std::string answer(const std::string& line) {
    if (line == "GET") return fmt::format("{} {}", version_, value_);
    if (line.starts_with("SET ")) {
      set(line.substr(4));
    } else if (line != "VERSION") {
      return "want GET, VERSION, WATCH or SET VALUE";
    }
    return fmt::to_string(version_);
  }

  awaitable<void> tell_changes(line_socket& client) {
    for (;;) {
      const auto told = version_;
      co_await client.write(fmt::to_string(told));
      try {
        if (told == version_) co_await cohort::with_timeout(changed_.wait(), line_socket::heartbeat);
      } catch (const std::system_error& error) {
        if (error.code() != cohort::errc::timed_out) throw;
      }
    }
  }

  std::uint64_t version_ = 0;
  std::string value_;
  cohort::event changed_;
};

awaitable<void> listen(tcp::acceptor& acceptor, source& here) {
  for (;;) {
    std::error_code error;
    auto socket = co_await acceptor.async_accept(asio::redirect_error(use_awaitable, error));
    if (!error) asio::co_spawn(acceptor.get_executor(), here.serve(std::move(socket)), asio::detached);
  }
}

int main(int argc, char* argv[]) {
  std::uint16_t port = 7001;
  if (argc > 3 || (argc > 1 && !http::parse_number<std::uint16_t>(argv[1], 0, 65535, port))) {
    fmt::print(stderr, "usage: cache_refresh_source [PORT [VALUE]]\n");
    return 2;
  }
  try {
    asio::io_context context(1);
    source here(context.get_executor(), argc > 2 ? argv[2] : "green");
    tcp::acceptor acceptor(context, tcp::endpoint(asio::ip::address_v4::loopback(), port));
    fmt::print("listening on 127.0.0.1:{}\n", acceptor.local_endpoint().port());
    std::fflush(stdout);
    asio::co_spawn(context, listen(acceptor, here), asio::detached);
    context.run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "cache_refresh_source: {}\n", error.what());
    return 1;
  }
}
