// SPDX-License-Identifier: BSL-1.0
// An HTTP/1.1 server of several processes, with keep-alive and pipelining, that loses no request when a worker ends.
//
//   /             says who has answered
//   /slow?ms=N    the same after N milliseconds
//   /fatal        answers, and then fails in a way that the worker should not live on with: another one replaces it
//   /abort        crashes the worker before it has answered
//
//   http_cluster --listen 127.0.0.1:8000 --workers 4 --distribution shared --control /run/http.ctl
//
// With --proxied yes, each connection begins with a header of the PROXY protocol, and an answer says who has asked.

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include <fmt/format.h>
#include <unistd.h>

#include <cohort/cohort.hpp>
#include <cohort/net/endpoint.hpp>

#include "http.hpp"

using asio::awaitable;
using asio::buffer;
using asio::use_awaitable;
using asio::ip::tcp;
using std::chrono::milliseconds;
using namespace std::chrono_literals;

struct reply {
  http::answer what;
  milliseconds after{0};
  bool fatal = false;
};

reply route(const http::request_parser& request, std::string_view who) {
  const auto path = request.path();
  if (path == "/") return {{HTTP_STATUS_OK, who}};
  if (path == "/slow") {
    unsigned time = 0;
    const auto query = request.query();
    if (query.starts_with("ms=") && http::parse_number(query.substr(3), 0u, 60'000u, time)) {
      return {{HTTP_STATUS_OK, who}, milliseconds(time)};
    }
    return {{HTTP_STATUS_BAD_REQUEST, "want /slow?ms=N, with N from 0 to 60000\n"}};
  }
  if (path == "/fatal") return {{HTTP_STATUS_OK, "going down\n"}, 0ms, true};
  if (path == "/abort") std::abort();
  return {{HTTP_STATUS_NOT_FOUND, "not found\n"}};
}

bool proxied = false;

awaitable<void> serve_connection(tcp::socket socket, cohort::worker& self) {
  static const std::string worker = fmt::format("handled by worker {}, pid {}\n", self.slot(), ::getpid());
  cohort::counter& requests = self.counter("requests");
  std::string_view who = worker;
  std::string who_for_whom;
  http::request_parser request;
  std::array<char, 8192> bytes;
  std::string_view input;
  std::string output;  // all the answers to what was read at once
  bool first = true, no_delay = false, close = false, fatal = false;

  if (proxied) {
    const auto header = co_await cohort::read_proxy_header(socket);
    const std::string client = header.source ? cohort::to_string(*header.source) : "the proxy";
    who = who_for_whom = fmt::format("{}for {}\n", worker, client);
  }
  socket.non_blocking(true);
  while (!close) {
    // The first request is here already, see defer_accept below; behind a proxy's header it need not be, and is waited
    // for when there is nothing to read. Between two requests the connection is idle, and ends when the worker drains;
    // not so in the middle of one.
    if (request.in_request()) {
      co_await socket.async_wait(tcp::socket::wait_read, use_awaitable);
    } else if (!first) {
      const bool more = co_await self.readable(socket);
      if (!more) co_return;
    }
    first = false;
    std::error_code error;
    input = std::string_view(bytes.data(), socket.read_some(buffer(bytes), error));
    if (error == asio::error::would_block) continue;
    if (error) co_return;  // the client has left

    while (!close && request.parse(input)) {
      const reply answer = route(request, who);
      if (answer.after > 0ms) {
        if (!output.empty()) co_await http::write(socket, output);
        asio::steady_timer timer(self.get_executor(), answer.after);
        co_await timer.async_wait(use_awaitable);
      }
      // A draining worker answers all that has been read, and says so with the last answer.
      fatal = answer.fatal;
      close = fatal || !request.keep_alive() || (self.draining() && input.empty());
      http::append(output, request, answer.what, close);
      requests.add();
    }
    if (request.failed()) {
      http::append(output, request, http::bad_request(request), true);
      close = true;
    }
    if (!output.empty()) co_await http::write(socket, output);
    if (!close && !no_delay) {
      // Nagle's algorithm would keep back an answer while the client has not acknowledged the one before, for which a
      // client that pipelines may take 40 ms. A connection with a single answer does without this system call.
      socket.set_option(tcp::no_delay(true));
      no_delay = true;
    }
  }
  co_await http::end(socket, request.failed() || !input.empty() || (request.keep_alive() && !fatal));
  if (fatal) throw std::runtime_error("somebody asked for /fatal");
}

template <class Number>
Number parse_value(std::string_view option, std::string_view text, Number lowest, Number highest) {
  Number result{};
  if (http::parse_number(text, lowest, highest, result)) return result;
  throw std::invalid_argument(fmt::format("{}: want a number from {} to {}, got {}", option, lowest, highest, text));
}

cohort::cluster_options parse_options(int argc, char* argv[]) {
  std::string address = "127.0.0.1:8000";
  cohort::cluster_options options;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view option = argv[i];
    const std::string value = i + 1 < argc ? argv[i + 1] : "";
    if (option == "--listen") {
      const bool inherited = value.starts_with("fd:");  // from systemd, see examples/deploy
      address = inherited ? value : cohort::to_string(cohort::parse_endpoint(value));
    } else if (option == "--workers") {
      options.workers = parse_value(option, value, 1u, 1024u);
    } else if (option == "--distribution") {
      options.distribution = cohort::parse_distribution(value);
    } else if (option == "--drain-timeout") {
      options.worker.drain_timeout = milliseconds(static_cast<int>(1000 * parse_value(option, value, 0.0, 86'400.0)));
    } else if (option == "--control") {
      options.control_socket = value;
    } else if (option == "--proxied" && (value == "yes" || value == "no")) {
      proxied = value == "yes";
    } else {
      throw std::invalid_argument(fmt::format("unknown option: {}", option));
    }
  }
  // In HTTP the client speaks first: a connection is nothing to wake up for until its request is there.
  options.listen = {address};
  options.defer_accept = true;
  return options;
}

int main(int argc, char* argv[]) {
  cohort::cluster_options options;
  try {
    options = parse_options(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr,
               "http_cluster: {}\n"
               "usage: http_cluster [--listen ADDRESS:PORT|fd:NAME] [--workers N]\n"
               "                    [--distribution NAME] [--drain-timeout SECONDS] [--control PATH]\n"
               "                    [--proxied yes|no]\n"
               "NAME is round_robin, least_connections, by_address, shared or reuse_port\n",
               error.what());
    return 2;
  }
  options.on_event = [](const cohort::cluster_event& event) {
    const auto text = cohort::to_string(event);
    if (event.what != cohort::cluster_event::kind::listening) return cohort::error_log::write(text);
    std::puts(text.c_str());
    std::fflush(stdout);
  };
  return cohort::serve(options, serve_connection);
}
