// SPDX-License-Identifier: BSL-1.0
// An HTTPS server of several processes: TLS 1.2 and 1.3, a certificate for each name, sessions that any worker resumes.
//
//   https_cluster --certificate FILE [--certificate FILE…] [--listen 127.0.0.1:8443] [--workers 4]
//                 [--rotate SECONDS] [--handshake SECONDS] [--handshakes NUMBER]
//
// Each FILE has a certificate, the chain above it and its private key. The first one is for clients that name none of
// the others. The workers read the files when they start: after a change, HUP replaces the workers without dropping a
// connection. If a file is bad then, the old workers go on with what they have read.
//
// --rotate is how long a key makes tickets; it is valid for as long again. --handshake is the time from a connection to
// its first request, and --handshakes how many connections of a worker may be before that; others are closed.

#include <array>
#include <chrono>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include <cohort/cohort.hpp>
#include <cohort/net/endpoint.hpp>

#include "../http.hpp"
#include "tls_server.hpp"

using asio::awaitable;
using asio::buffer;
using asio::use_awaitable;
using asio::ip::tcp;

struct settings {
  std::string listen = "127.0.0.1:8443";
  unsigned workers = 4;
  double rotate = 3600;   // seconds
  double handshake = 10;  // seconds
  unsigned handshakes = 256;
  std::vector<std::string> certificates;
};

awaitable<void> answer_all(tls::stream& stream, cohort::worker& self) {
  const std::string who = fmt::format("handled by worker {}, pid {}\n", self.slot(), ::getpid());
  http::request_parser request;
  std::array<char, 8192> bytes;
  std::string output;
  for (bool close = false; !close;) {
    if (!request.in_request()) {
      const bool more = co_await self.readable(stream);
      if (!more) co_return;
    }
    std::error_code error;
    const auto size = co_await stream.async_read_some(buffer(bytes), asio::redirect_error(use_awaitable, error));
    if (error == asio::error::eof) co_return;  // the client's close_notify, which is answered
    if (error) throw std::system_error(error);
    std::string_view input(bytes.data(), size);
    while (!close && request.parse(input)) {
      close = !request.keep_alive() || (self.draining() && input.empty());
      http::append(output, request, {HTTP_STATUS_OK, who}, close);
    }
    if (request.failed()) {
      http::append(output, request, http::bad_request(request), true);
      close = true;
    }
    if (!output.empty()) co_await asio::async_write(stream, buffer(output), use_awaitable);
    output.clear();
  }
}

awaitable<void> serve_connection(tcp::socket socket, cohort::worker& self, tls::server& security,
                                 const settings& limits) {
  socket.set_option(tcp::no_delay(true));
  tls::stream stream(std::move(socket), security.context());
  const tls::seconds limit(limits.handshake);
  const bool secure = co_await tls::greet_in_time(stream, security.handshakes, limits.handshakes, limit);
  if (!secure) co_return;
  co_await answer_all(stream, self);
  co_await tls::end(stream);
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
               !(option == "--rotate" && http::parse_number(value, 0.1, 86'400.0, result.rotate)) &&
               !(option == "--handshake" && http::parse_number(value, 0.01, 3600.0, result.handshake)) &&
               !(option == "--handshakes" && http::parse_number(value, 1u, 100'000u, result.handshakes))) {
      throw std::invalid_argument(fmt::format("not understood: {} {}", option, value));
    }
  }
  if (result.certificates.empty()) throw std::invalid_argument("want a --certificate");
  return result;
}

int main(int argc, char* argv[]) {
  settings wanted;
  try {
    wanted = parse_options(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr,
               "https_cluster: {}\nusage: https_cluster --certificate FILE [--certificate FILE]… [--listen "
               "ADDRESS:PORT] [--workers N] [--rotate SECONDS] [--handshake SECONDS] [--handshakes N]\n",
               error.what());
    return 2;
  }
  tls::server security("http/1.1");
  tls::key_maker maker;
  cohort::cluster_options options;
  options.listen = {wanted.listen};
  options.workers = wanted.workers;
  options.defer_accept = true;  // in TLS the client speaks first
  options.worker.set_up = [&](cohort::worker& self) { return security.set_up(self, wanted.certificates); };
  options.agents = {tls::ticket_agent(maker, tls::seconds(wanted.rotate))};
  options.on_event = [](const cohort::cluster_event& event) {
    const auto text = cohort::to_string(event);
    if (event.what != cohort::cluster_event::kind::listening) return cohort::error_log::write(text);
    std::puts(text.c_str());
    std::fflush(stdout);
  };
  return cohort::serve(options, [&](tcp::socket socket, cohort::worker& self) {
    return serve_connection(std::move(socket), self, security, wanted);
  });
}
