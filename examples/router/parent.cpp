// SPDX-License-Identifier: BSL-1.0
// One port for several programs: reads from each connection until it knows which host is asked for, and hands it, with
// what was read, to the program behind that host. From then on the router has no part in it.
//
//   router [PORT]        and then: curl time.localhost:8000; curl echo.localhost:8000/some/path
//
// Ends at Ctrl-C or SIGTERM, when the connections that the workers have are answered.

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <signal.h>

#include <cohort/core/task_group.hpp>
#include <cohort/core/timeout.hpp>
#include <cohort/ipc/peer.hpp>

#include "../http.hpp"
#include "host.hpp"
#include "protocol.hpp"

using asio::awaitable;
using asio::use_awaitable;
using asio::ip::tcp;
using namespace std::chrono_literals;

template <class... Arguments>
void say(fmt::format_string<Arguments...> text, Arguments&&... arguments) {
  fmt::print(text, std::forward<Arguments>(arguments)...);
  std::fflush(stdout);
}

/// A program, and the host that it serves.
struct route {
  std::string_view host;
  std::string_view program;
  cohort::peer<protocol> worker = {};
};

class router {
 public:
  router(asio::any_io_executor executor, std::uint16_t port)
      : acceptor_(executor, tcp::endpoint(asio::ip::address_v4::loopback(), port)),
        background_(executor),
        words_(executor),
        connections_(executor) {}

  awaitable<void> run() {
    const auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    for (route& each : routes_) {
      each.worker = co_await cohort::spawn<protocol>(cohort::command(here / each.program));
      say("{} has pid {}\n", each.host, each.worker.pid());
      start(words_, listen_to(each));
    }
    start(background_, wait_for_signal());
    say("listening on 127.0.0.1:{}\n", acceptor_.local_endpoint().port());
    co_await accept();

    co_await connections_.wait_empty();
    for (route& each : routes_) {
      co_await each.worker.disconnect();
      const auto status = co_await each.worker.stop(cohort::stop_policy(0, 10s));  // it knows; signal 0 only waits
      say("{} {}\n", each.host, status);
    }
    co_await words_.wait_empty();  // the last ones may still be in the channels
    background_.cancel();
    co_await background_.wait_empty();
  }

 private:
  awaitable<void> accept() {
    while (true) {
      std::error_code error;
      auto socket = co_await acceptor_.async_accept(asio::redirect_error(use_awaitable, error));
      if (error) co_return;  // by wait_for_signal()
      start(connections_, cohort::with_timeout(dispatch(std::move(socket)), 5s));
    }
  }

  awaitable<void> dispatch(tcp::socket socket) {
    visit what;
    host_finder head;
    std::array<char, 4096> bytes;
    std::string_view input;
    do {
      const auto size = co_await socket.async_read_some(asio::buffer(bytes), use_awaitable);
      input = std::string_view(bytes.data(), size);
      what.read += input;
    } while (head.wants_more(input));

    const std::string host = head.host();
    for (route& each : routes_) {
      if (each.host != host) continue;
      try {
        co_await each.worker.send_handle(what, std::move(socket));
        co_return;  // it has the connection, and ours is closed
      } catch (const std::system_error& error) {
        if (error.code() == asio::error::operation_aborted) throw;
        say("{} does not take a connection: {}\n", host, error.what());
      }
      // What was not taken is still ours.
      co_await refuse(std::move(socket), HTTP_STATUS_SERVICE_UNAVAILABLE, "this host has no worker now\n");
      co_return;
    }
    co_await refuse(std::move(socket), HTTP_STATUS_NOT_FOUND, "no such host\n");
  }

  static awaitable<void> refuse(tcp::socket socket, http_status status, std::string_view why) {
    std::string output;
    const http::request_parser none;
    const http::answer what{status, why};
    http::append(output, none, what, true);
    socket.non_blocking(true);
    co_await http::write(socket, output);
    co_await http::end(socket, true);
  }

  static awaitable<void> listen_to(route& from) {
    unsigned answers = 0;
    while (const auto word = co_await from.worker.receive()) ++answers;
    say("{} has answered {} times\n", from.host, answers);
  }

  awaitable<void> wait_for_signal() {
    asio::signal_set signals(acceptor_.get_executor(), SIGINT, SIGTERM);
    co_await signals.async_wait(use_awaitable);
    acceptor_.close();
  }

  static void start(cohort::task_group& group, awaitable<void> work) {
    group.start(std::move(work), [](std::exception_ptr failure) {
      try {
        if (failure) std::rethrow_exception(failure);
      } catch (const std::system_error&) {
        // The client has left, or was too slow; or a worker has died.
      }
    });
  }

  tcp::acceptor acceptor_;
  std::array<route, 2> routes_{{{"time.localhost", "router_time"}, {"echo.localhost", "router_echo"}}};
  cohort::task_group background_;
  cohort::task_group words_;
  cohort::task_group connections_;
};

int main(int argc, char* argv[]) {
  std::uint16_t port = 8000;
  if (argc > 2 || (argc == 2 && !http::parse_number(argv[1], std::uint16_t{0}, std::uint16_t{65535}, port))) {
    fmt::print(stderr, "usage: router [PORT]\n");
    return 2;
  }
  try {
    asio::io_context context(1);
    router server(context.get_executor(), port);
    asio::co_spawn(context, server.run(), [](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
    context.run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "router: {}\n", error.what());
    return 1;
  }
}
