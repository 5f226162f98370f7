// SPDX-License-Identifier: BSL-1.0
// HTTP by Boost.Beast, in several processes: cohort stands on Boost.Asio here (COHORT_BOOST_ASIO).
//
//   /             says who has answered
//   /slow?ms=N    the same after N milliseconds
//
//   http_beast --listen 127.0.0.1:8000 --workers 4 --distribution shared

#include <charconv>
#include <chrono>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>

#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include <cohort/cohort.hpp>
#include <cohort/net/endpoint.hpp>

namespace asio = cohort::asio;  // boost::asio
namespace beast = boost::beast;
namespace http = beast::http;

using asio::ip::tcp;
using request = http::request<http::string_body>;
using response = http::response<http::string_body>;

constexpr std::chrono::seconds patience(10);  // with a client that is in the middle of its request, or does not read

/// N of "/slow?ms=N", 0 for any other path; -1 if N is no number from 0 to 60000.
int delay_of(std::string_view target) {
  constexpr std::string_view slow = "/slow?ms=";
  if (!target.starts_with(slow)) return 0;
  target.remove_prefix(slow.size());
  int result = 0;
  const auto [end, error] = std::from_chars(target.data(), target.data() + target.size(), result);
  const bool good = error == std::errc() && end == target.data() + target.size() && result >= 0 && result <= 60'000;
  return good ? result : -1;
}

response answer(const request& to, http::status status, std::string text) {
  response result(status, to.version());
  result.set(http::field::content_type, "text/plain");
  result.keep_alive(to.keep_alive());
  result.body() = std::move(text);
  result.prepare_payload();
  return result;
}

asio::awaitable<void> serve_connection(tcp::socket socket, cohort::worker& self) {
  const std::string who = fmt::format("handled by worker {}, pid {}\n", self.slot(), ::getpid());
  beast::tcp_stream stream(std::move(socket));
  beast::flat_buffer buffer;  // what has been read of the requests to come
  for (bool more = true; more;) {
    // Between two requests the connection is idle, and ends when the worker drains.
    if (buffer.size() == 0) {
      const bool comes = co_await self.readable(stream.socket());
      if (!comes) co_return;
    }
    stream.expires_after(patience);
    request asked;
    boost::system::error_code error;
    co_await http::async_read(stream, buffer, asked, asio::redirect_error(asio::use_awaitable, error));
    if (error == http::error::end_of_stream) break;
    if (error && error.category() != http::make_error_code(http::error::bad_target).category()) co_return;  // it left

    const int delay = delay_of(asked.target());
    response reply;
    if (error || delay < 0) {
      asked.keep_alive(false);
      reply = answer(asked, http::status::bad_request, error ? error.message() + '\n' : "want /slow?ms=N\n");
    } else if (delay == 0 && asked.target() != "/") {
      reply = answer(asked, http::status::not_found, "not found\n");
    } else {
      asio::steady_timer timer(self.get_executor(), std::chrono::milliseconds(delay));
      if (delay > 0) co_await timer.async_wait(asio::use_awaitable);
      reply = answer(asked, http::status::ok, who);
    }
    // A draining worker answers all that has been read, and says so with the last answer.
    more = reply.keep_alive() && !(self.draining() && buffer.size() == 0);
    reply.keep_alive(more);
    stream.expires_after(patience);
    co_await http::async_write(stream, reply, asio::use_awaitable);
  }
  boost::system::error_code ignored;
  stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
}

int main(int argc, char* argv[]) {
  cohort::cluster_options options;
  options.listen = {"127.0.0.1:8000"};
  options.defer_accept = true;
  try {
    for (int i = 1; i < argc; i += 2) {
      const std::string_view option = argv[i];
      const std::string value = i + 1 < argc ? argv[i + 1] : "";
      if (option == "--listen") {
        options.listen = {cohort::to_string(cohort::parse_endpoint(value))};
      } else if (option == "--workers") {
        options.workers = static_cast<unsigned>(std::stoul(value));
      } else if (option == "--distribution") {
        options.distribution = cohort::parse_distribution(value);
      } else {
        throw std::invalid_argument(fmt::format("unknown option: {}", option));
      }
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "http_beast: %s\n", error.what());
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
