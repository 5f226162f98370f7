// SPDX-License-Identifier: BSL-1.0
// An HTTP/2 server of several processes, which ends no request when a worker is replaced.
//
//   /               hello            /large?bytes=N   as many bytes
//   /pid            of the worker    /slow?ms=N       ten lines, the last one after N milliseconds
//   /echo           what was sent, up to 64 KiB
//
//   h2_cluster [--listen 127.0.0.1:8000] [--workers 4] [--certificate FILE]… [--idle SECONDS] [--streams NUMBER]
//
// Without a certificate it does without TLS, and a client has to know that it is HTTP/2: curl --http2-prior-knowledge.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include <cohort/cohort.hpp>
#include <cohort/net/endpoint.hpp>

#include "../http.hpp"
#include "../https_cluster/tls_server.hpp"
#include "h2_session.hpp"

using asio::awaitable;
using asio::ip::tcp;

awaitable<void> say(h2::exchange& each, int status, std::string text) {
  each.respond(status);
  co_await each.write(text);
}

awaitable<void> echo(h2::exchange& each) {
  constexpr std::size_t most = 64 * 1024;
  std::string all;
  while (all.size() <= most) {
    const std::string piece = co_await each.read();
    if (piece.empty()) co_return co_await say(each, 200, all);
    all += piece;
  }
  each.respond(413);
}

awaitable<void> slowly(h2::exchange& each, std::chrono::milliseconds time) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  each.respond(200);
  for (int i = 1; i <= 10; ++i) {
    timer.expires_after(time / 10);
    co_await timer.async_wait(asio::use_awaitable);
    co_await each.write(fmt::format("{} of 10 by pid {}\n", i, ::getpid()));
  }
}

awaitable<void> fill(h2::exchange& each, std::uint64_t left) {
  const std::string block(16 * 1024, 'x');
  each.respond(200);
  for (; left > block.size(); left -= block.size()) co_await each.write(block);
  co_await each.write(std::string_view(block).substr(0, left));
}

awaitable<void> route(h2::exchange& each) {
  const std::string_view path = each.path();
  std::uint64_t number = 0;
  const auto has = [&](std::string_view prefix, std::uint64_t most) {
    return path.starts_with(prefix) && http::parse_number(path.substr(prefix.size()), std::uint64_t{0}, most, number);
  };
  if (path == "/") return say(each, 200, "hello\n");
  if (path == "/pid") return say(each, 200, fmt::format("pid {}\n", ::getpid()));
  if (path == "/echo") return echo(each);
  if (has("/slow?ms=", 60'000)) return slowly(each, std::chrono::milliseconds(number));
  if (has("/large?bytes=", UINT64_C(1) << 40)) return fill(each, number);
  return say(each, 404, "not found\n");
}

struct settings {
  std::string listen = "127.0.0.1:8000";
  unsigned workers = 4;
  double idle = 60;  // seconds
  std::vector<std::string> certificates;
  h2::limits limits;
};

awaitable<void> serve_connection(tcp::socket socket, cohort::worker& self, tls::server& security,
                                 const settings& wanted) {
  socket.set_option(tcp::no_delay(true));
  h2::session session(self, wanted.limits, &route);
  if (wanted.certificates.empty()) {
    co_await session.run(socket);
    co_await http::end(socket, true);
  } else {
    tls::stream stream(std::move(socket), security.context());
    const bool secure = co_await tls::greet_in_time(stream, security.handshakes, 256, tls::seconds(10));
    if (!secure) co_return;
    co_await session.run(stream);
    co_await tls::end(stream);
  }
}

settings parse_options(int argc, char* argv[]) {
  settings result;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view option = argv[i];
    const std::string value = i + 1 < argc ? argv[i + 1] : "";
    if (option == "--listen") {
      result.listen = cohort::to_string(cohort::parse_endpoint(value));
    } else if (option == "--certificate" && !value.empty()) {
      result.certificates.push_back(value);
    } else if (!(option == "--workers" && http::parse_number(value, 1u, 1024u, result.workers)) &&
               !(option == "--idle" && http::parse_number(value, 0.01, 86'400.0, result.idle)) &&
               !(option == "--streams" && http::parse_number(value, 1u, 10'000u, result.limits.streams))) {
      throw std::invalid_argument(fmt::format("not understood: {} {}", option, value));
    }
  }
  result.limits.idle = std::chrono::milliseconds(static_cast<int>(1000 * result.idle));
  return result;
}

int main(int argc, char* argv[]) {
  settings wanted;
  try {
    wanted = parse_options(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr,
               "h2_cluster: {}\n"
               "usage: h2_cluster [--listen ADDRESS:PORT] [--workers N] [--certificate FILE]… [--idle SECONDS] "
               "[--streams N]\n",
               error.what());
    return 2;
  }
  cohort::cluster_options options;
  options.listen = {wanted.listen};
  options.workers = wanted.workers;
  options.defer_accept = true;  // in HTTP/2 the client speaks first
  tls::server security("h2");
  tls::key_maker maker;
  if (!wanted.certificates.empty()) {
    options.worker.set_up = [&](cohort::worker& self) { return security.set_up(self, wanted.certificates); };
    options.agents = {tls::ticket_agent(maker, std::chrono::hours(1))};
  }
  return cohort::serve(options, [&](tcp::socket socket, cohort::worker& self) {
    return serve_connection(std::move(socket), self, security, wanted);
  });
}
