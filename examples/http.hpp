// SPDX-License-Identifier: BSL-1.0
// As much of HTTP/1.1 as the examples need: reading requests and writing answers.
#pragma once

#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <http_parser.h>
#include <strings.h>

#include <asio/write.hpp>
#include <cohort/core/asio.hpp>
#include <cohort/core/timeout.hpp>

namespace http {

using asio::ip::tcp;

template <class Number>
bool parse_number(std::string_view text, Number lowest, Number highest, Number& result) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result);
  return error == std::errc() && end == text.data() + text.size() && lowest <= result && result <= highest;
}

/// Takes one request after the other out of what a client sends, and skips their bodies.
class request_parser {
 public:
  /// Keeps the values of this header, if one is named.
  explicit request_parser(std::string_view header = {}) : wanted_(header) {
    http_parser_init(&parser_, HTTP_REQUEST);
    parser_.data = this;
  }

  /// Takes from `input` what belongs to the next request, or to the one that has begun; true when it is complete.
  bool parse(std::string_view& input) {
    if (state_ == complete) {
      state_ = idle;
      url_.clear();
      header_.clear();
      http_parser_pause(&parser_, 0);
    }
    const auto& settings = wanted_.empty() ? callbacks : callbacks_with_header;
    input.remove_prefix(http_parser_execute(&parser_, &settings, input.data(), input.size()));
    return state_ == complete;
  }

  bool in_request() const { return state_ == begun; }
  bool failed() const { return error() != HPE_OK && error() != HPE_PAUSED; }
  bool too_large() const { return error() == HPE_HEADER_OVERFLOW; }

  // of a request that is complete
  bool keep_alive() const { return http_should_keep_alive(&parser_) != 0; }
  bool is_http_1_0() const { return parser_.http_minor == 0; }
  bool is_head() const { return parser_.method == HTTP_HEAD; }
  http_method method() const { return static_cast<http_method>(parser_.method); }
  std::string_view header() const { return header_; }  // several are joined by "; "
  std::string_view path() const { return part(UF_PATH); }
  std::string_view query() const { return part(UF_QUERY); }

 private:
  static request_parser& of(http_parser* parser) { return *static_cast<request_parser*>(parser->data); }

  static int on_begin(http_parser* parser) { return of(parser).state_ = begun, 0; }

  static int on_url(http_parser* parser, const char* data, std::size_t size) {
    of(parser).url_.append(data, size);
    return 0;
  }

  // A name or a value may come in several reads, too; a value that begins says that the name is whole.
  static int on_name(http_parser* parser, const char* data, std::size_t size) {
    auto& self = of(parser);
    if (std::exchange(self.in_value_, false)) self.name_.clear();
    self.name_.append(data, size);
    return 0;
  }

  static int on_value(http_parser* parser, const char* data, std::size_t size) {
    auto& self = of(parser);
    const bool begins = !std::exchange(self.in_value_, true);
    if (::strcasecmp(self.name_.c_str(), self.wanted_.c_str()) != 0) return 0;
    if (begins && !self.header_.empty()) self.header_ += "; ";
    self.header_.append(data, size);
    return 0;
  }

  static int on_complete(http_parser* parser) {
    of(parser).state_ = complete;
    http_parser_pause(parser, 1);
    return 0;
  }

  static constexpr http_parser_settings callbacks = {on_begin, on_url,  nullptr,     nullptr, nullptr,
                                                     nullptr,  nullptr, on_complete, nullptr, nullptr};
  static constexpr http_parser_settings callbacks_with_header = {on_begin, on_url,  nullptr,     on_name, on_value,
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
  std::string wanted_, name_, header_;
  bool in_value_ = true;  // or before the first name
  enum { idle, begun, complete } state_ = idle;
};

struct answer {
  http_status status = HTTP_STATUS_OK;
  std::string_view body;
  std::string_view headers = {};  // whole lines, beside those that each answer has
};

inline answer bad_request(const request_parser& request) {
  const bool large = request.too_large();
  return {large ? HTTP_STATUS_REQUEST_HEADER_FIELDS_TOO_LARGE : HTTP_STATUS_BAD_REQUEST, "bad request\n"};
}

/// Adds the answer to a request. After the last one the connection ends.
inline void append(std::string& output, const request_parser& request, const answer& what, bool last) {
  const bool with_body = request.failed() || !request.is_head();
  const char* const stays = request.is_http_1_0() ? "Connection: keep-alive\r\n" : "";
  fmt::format_to(std::back_inserter(output),
                 "HTTP/1.1 {} {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{}{}\r\n{}",
                 static_cast<int>(what.status), http_status_str(what.status), what.body.size(), what.headers,
                 last ? "Connection: close\r\n" : stays, with_body ? what.body : std::string_view());
}

/// Writes all and empties `output`. Most often the kernel takes it at once, and nobody waits: the socket is
/// non-blocking.
inline asio::awaitable<void> write(tcp::socket& socket, std::string& output) {
  std::error_code error;
  const std::size_t written = socket.write_some(asio::buffer(output), error);
  if (error && error != asio::error::would_block) throw std::system_error(error);
  if (written < output.size()) co_await asio::async_write(socket, asio::buffer(output) + written, asio::use_awaitable);
  output.clear();
}

inline asio::awaitable<void> read_to_end(tcp::socket& socket) {
  std::array<char, 4096> waste;
  std::error_code error;
  while (!error) {
    co_await socket.async_read_some(asio::buffer(waste), asio::redirect_error(asio::use_awaitable, error));
  }
}

/// Ends a connection from which more may come: to close it then would reset it, and an answer on its way may be lost.
inline asio::awaitable<void> end(tcp::socket& socket, bool more_may_come) {
  std::error_code ignored;
  socket.shutdown(tcp::socket::shutdown_send, ignored);
  if (more_may_come) co_await cohort::with_timeout(read_to_end(socket), std::chrono::seconds(1));
}

struct response {
  response(http_status code, std::string text) : status(code), body(std::move(text)) {}

  http_status status;
  std::string body;
};

/// Serves a connection of `self`, a cohort::worker, to its end: `respond(request)` returns the response to each
/// request.
template <class Worker, class Respond>
asio::awaitable<void> serve(tcp::socket socket, Worker& self, Respond respond) {
  request_parser request;
  std::array<char, 8192> bytes;
  std::string output;  // all the answers to what was read at once
  bool close = false;

  socket.non_blocking(true);
  socket.set_option(tcp::no_delay(true));
  while (!close) {
    // Between two requests the connection is idle, and ends when the worker drains; not so in the middle of one.
    if (request.in_request()) {
      co_await socket.async_wait(tcp::socket::wait_read, asio::use_awaitable);
    } else {
      const bool more = co_await self.readable(socket);
      if (!more) co_return;
    }
    std::error_code error;
    std::string_view input(bytes.data(), socket.read_some(asio::buffer(bytes), error));
    if (error == asio::error::would_block) continue;
    if (error) co_return;  // the client has left

    while (!close && request.parse(input)) {
      const response what = respond(std::as_const(request));
      close = !request.keep_alive() || (self.draining() && input.empty());
      append(output, request, {what.status, what.body}, close);
    }
    if (request.failed()) {
      append(output, request, bad_request(request), true);
      close = true;
    }
    if (!output.empty()) co_await write(socket, output);
  }
  co_await end(socket, true);
}

}  // namespace http
