// SPDX-License-Identifier: BSL-1.0
// An HTTP/1.1 server of several processes, with keep-alive and pipelining, that loses no request when a worker ends.
//
//   /             says who has answered
//   /slow?ms=N    the same after N milliseconds
//   /fatal        answers, and then fails in a way that the worker should not live on with: another one replaces it
//   /abort        crashes the worker before it has answered
//
//   http_cluster --listen 127.0.0.1:8000 --workers 4 --distribution shared

#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include <fmt/format.h>
#include <http_parser.h>
#include <unistd.h>

#include <asio/write.hpp>
#include <cohort/cohort.hpp>

using asio::awaitable;
using asio::buffer;
using asio::use_awaitable;
using asio::ip::tcp;
using std::chrono::milliseconds;
using namespace std::chrono_literals;

template <class Number>
bool parse_number(std::string_view text, Number lowest, Number highest, Number& result) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result);
  return error == std::errc() && end == text.data() + text.size() && lowest <= result && result <= highest;
}

/// Takes one request after the other out of what a client sends, and skips their bodies.
class request_parser {
 public:
  request_parser() {
    http_parser_init(&parser_, HTTP_REQUEST);
    parser_.data = this;
  }

  /// Takes from `input` what belongs to the next request, or to the one that has begun; true when it is complete.
  bool parse(std::string_view& input) {
    if (state_ == complete) {
      state_ = idle;
      url_.clear();
      http_parser_pause(&parser_, 0);
    }
    input.remove_prefix(http_parser_execute(&parser_, &callbacks, input.data(), input.size()));
    return state_ == complete;
  }

  bool in_request() const { return state_ == begun; }
  bool failed() const { return error() != HPE_OK && error() != HPE_PAUSED; }
  bool too_large() const { return error() == HPE_HEADER_OVERFLOW; }

  // of a request that is complete
  bool keep_alive() const { return http_should_keep_alive(&parser_) != 0; }
  bool is_http_1_0() const { return parser_.http_minor == 0; }
  bool is_head() const { return parser_.method == HTTP_HEAD; }
  std::string_view path() const { return part(UF_PATH); }
  std::string_view query() const { return part(UF_QUERY); }

 private:
  static request_parser& of(http_parser* parser) { return *static_cast<request_parser*>(parser->data); }

  static int on_begin(http_parser* parser) { return of(parser).state_ = begun, 0; }

  static int on_url(http_parser* parser, const char* data, std::size_t size) {
    of(parser).url_.append(data, size);
    return 0;
  }

  static int on_complete(http_parser* parser) {
    of(parser).state_ = complete;
    http_parser_pause(parser, 1);
    return 0;
  }

  static constexpr http_parser_settings callbacks = {on_begin, on_url,  nullptr,     nullptr, nullptr,
                                                     nullptr,  nullptr, on_complete, nullptr, nullptr};

  http_errno error() const { return HTTP_PARSER_ERRNO(&parser_); }

  std::string_view part(http_parser_url_fields which) const {
    http_parser_url url;
    http_parser_url_init(&url);
    if (http_parser_parse_url(url_.data(), url_.size(), parser_.method == HTTP_CONNECT, &url) != 0) return {};
    return std::string_view(url_).substr(url.field_data[which].off, url.field_data[which].len);
  }

  http_parser parser_;
  std::string url_;  // which may come in several reads
  enum { idle, begun, complete } state_ = idle;
};

struct answer {
  http_status status = HTTP_STATUS_OK;
  std::string_view body;
  milliseconds after{0};
  bool fatal = false;
};

answer route(const request_parser& request, std::string_view who) {
  const auto path = request.path();
  if (path == "/") return {HTTP_STATUS_OK, who};
  if (path == "/slow") {
    unsigned time = 0;
    const auto query = request.query();
    if (query.starts_with("ms=") && parse_number(query.substr(3), 0u, 60'000u, time)) {
      return {HTTP_STATUS_OK, who, milliseconds(time)};
    }
    return {HTTP_STATUS_BAD_REQUEST, "want /slow?ms=N, with N from 0 to 60000\n"};
  }
  if (path == "/fatal") return {HTTP_STATUS_OK, "going down\n", 0ms, true};
  if (path == "/abort") std::abort();
  return {HTTP_STATUS_NOT_FOUND, "not found\n"};
}

void append(std::string& output, const answer& what, std::string_view connection, bool with_body = true) {
  fmt::format_to(std::back_inserter(output),
                 "HTTP/1.1 {} {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{}\r\n{}",
                 static_cast<int>(what.status), http_status_str(what.status), what.body.size(), connection,
                 with_body ? what.body : std::string_view());
}

/// Most often the kernel takes all of it at once, and nobody waits.
awaitable<void> write(tcp::socket& socket, std::string& output) {
  std::error_code error;
  const std::size_t written = socket.write_some(buffer(output), error);
  if (error && error != asio::error::would_block) throw std::system_error(error);
  if (written < output.size()) co_await asio::async_write(socket, buffer(output) + written, use_awaitable);
  output.clear();
}

awaitable<void> read_to_end(tcp::socket& socket) {
  std::array<char, 4096> waste;
  std::error_code error;
  while (!error) co_await socket.async_read_some(buffer(waste), asio::redirect_error(use_awaitable, error));
}

awaitable<void> serve_connection(tcp::socket socket, cohort::worker& self) {
  static const std::string who = fmt::format("handled by worker {}, pid {}\n", self.slot(), ::getpid());
  constexpr const char* closing = "Connection: close\r\n";
  request_parser request;
  std::array<char, 8192> bytes;
  std::string_view input;
  std::string output;  // all the answers to what was read at once
  bool first = true, no_delay = false, close = false, fatal = false;

  socket.non_blocking(true);
  while (!close) {
    // The first request is here already, see defer_accept below. Between two requests the connection is idle, and ends
    // when the worker drains; not so in the middle of one.
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
      const answer reply = route(request, who);
      if (reply.after > 0ms) {
        if (!output.empty()) co_await write(socket, output);
        asio::steady_timer timer(self.get_executor(), reply.after);
        co_await timer.async_wait(use_awaitable);
      }
      // A draining worker answers all that has been read, and says so with the last answer.
      fatal = reply.fatal;
      close = fatal || !request.keep_alive() || (self.draining() && input.empty());
      const char* connection = close ? closing : request.is_http_1_0() ? "Connection: keep-alive\r\n" : "";
      append(output, reply, connection, !request.is_head());
    }
    if (request.failed()) {
      answer reply{HTTP_STATUS_BAD_REQUEST, "bad request\n"};
      if (request.too_large()) reply.status = HTTP_STATUS_REQUEST_HEADER_FIELDS_TOO_LARGE;
      append(output, reply, closing);
      close = true;
    }
    if (!output.empty()) co_await write(socket, output);
    if (!close && !no_delay) {
      // Nagle's algorithm would keep back an answer while the client has not acknowledged the one before, for which a
      // client that pipelines may take 40 ms. A connection with a single answer does without this system call.
      socket.set_option(tcp::no_delay(true));
      no_delay = true;
    }
  }

  std::error_code ignored;
  socket.shutdown(tcp::socket::shutdown_send, ignored);
  // To close a socket that has something to read resets the connection, which may destroy an answer on its way.
  const bool more_may_come = request.failed() || !input.empty() || (request.keep_alive() && !fatal);
  if (more_may_come) co_await cohort::with_timeout(read_to_end(socket), 1s);
  if (fatal) throw std::runtime_error("somebody asked for /fatal");
}

cohort::distribution parse_distribution(std::string_view name) {
  if (name == "round_robin") return cohort::distribution::round_robin;
  if (name == "shared") return cohort::distribution::shared;
  if (name == "reuse_port") return cohort::distribution::reuse_port;
  throw std::invalid_argument(fmt::format("--distribution: unknown: {}", name));
}

template <class Number>
Number parse_value(std::string_view option, std::string_view text, Number lowest, Number highest) {
  Number result{};
  if (parse_number(text, lowest, highest, result)) return result;
  throw std::invalid_argument(fmt::format("{}: want a number from {} to {}, got {}", option, lowest, highest, text));
}

cohort::cluster_options parse_options(int argc, char* argv[]) {
  std::string address = "127.0.0.1:8000";
  cohort::cluster_options options;
  cohort::worker_options worker;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view option = argv[i];
    const std::string value = i + 1 < argc ? argv[i + 1] : "";
    if (option == "--listen") {
      address = cohort::to_string(cohort::parse_endpoint(value));
    } else if (option == "--workers") {
      options.workers(parse_value(option, value, 1u, 1024u));
    } else if (option == "--distribution") {
      options.distribute(parse_distribution(value));
    } else if (option == "--drain-timeout") {
      worker.drain_timeout = milliseconds(static_cast<int>(1000 * parse_value(option, value, 0.0, 86'400.0)));
    } else {
      throw std::invalid_argument(fmt::format("unknown option: {}", option));
    }
  }
  // In HTTP the client speaks first: a connection is nothing to wake up for until its request is there.
  options.listen(address).worker(worker).defer_accept(true);
  return options;
}

int main(int argc, char* argv[]) {
  cohort::cluster_options options;
  try {
    options = parse_options(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr,
               "http_cluster: {}\n"
               "usage: http_cluster [--listen ADDRESS:PORT] [--workers N]\n"
               "                    [--distribution round_robin|shared|reuse_port] [--drain-timeout SECONDS]\n",
               error.what());
    return 2;
  }
  options.on_event([](const cohort::cluster_event& event) {
    std::FILE* const stream = event.what == cohort::cluster_event::kind::listening ? stdout : stderr;
    fmt::print(stream, "{}\n", cohort::to_string(event));
    std::fflush(stream);
  });
  return cohort::serve(options, serve_connection);
}
