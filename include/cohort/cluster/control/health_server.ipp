// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "health_server.hpp"

#include <exception>
#include <utility>

#include <fmt/format.h>

#include "../../core/asio_error.hpp"
#include "../../core/config.hpp"
#include "../../core/timeout.hpp"
#include "../../net/endpoint.hpp"
#include "../cluster.hpp"
#include "metrics.hpp"

namespace cohort {

namespace detail {

COHORT_INLINE descriptor open_health(asio::ip::tcp::endpoint& at) {
  listen_settings settings;
  settings.backlog = 64;
  if (at.address().is_unspecified()) settings.v6_only = false;
  return open_listener(at, settings);
}

/// An HTTP answer, after which the connection ends.
COHORT_INLINE std::string http_answer(std::string_view status, std::string_view body, bool with_body,
                                      std::string_view type = "text/plain; charset=utf-8") {
  return fmt::format(
      "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{}",
      status, type, body.size(), with_body ? body : std::string_view());
}

}  // namespace detail

COHORT_INLINE health_server::health_server(cluster& primary, const std::string& address)
    : primary_(primary),
      at_(parse_endpoint(expand_endpoint(address).front())),
      acceptor_(primary.get_executor(), detail::open_health(at_)),
      clients_(primary.get_executor()) {}

COHORT_INLINE asio::awaitable<void> health_server::run() {
  constexpr std::size_t at_a_time = 16;
  const acceptor::taker take = [this](descriptor accepted) {
    try {
      admit(std::move(accepted));
    } catch (const std::exception&) {
      // It costs this client alone: there is no memory, or its socket is broken.
    }
  };
  const acceptor::condition wanted = [this] { return !stopped_; };
  std::exception_ptr failure;
  try {
    auto result = accept_result::more;
    while (!stopped_ && result != accept_result::ended)
      result = co_await acceptor_.accept_some(at_a_time, take, wanted);
  } catch (...) {
    failure = std::current_exception();
  }
  co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
  stop();
  co_await clients_.cancel_and_wait();
  if (failure) std::rethrow_exception(failure);
}

COHORT_INLINE void health_server::stop() {
  if (std::exchange(stopped_, true)) return;
  acceptor_.close();
}

COHORT_INLINE void health_server::admit(descriptor accepted) {
  order_.remove_if([](const auto& each) { return each.expired(); });
  if (order_.size() >= max_clients) {
    const auto first = order_.front().lock();
    order_.pop_front();
    first->emit(asio::cancellation_type::terminal);
  }
  asio::ip::tcp::socket socket(clients_.get_executor(), at_.protocol(), accepted.get());
  (void)accepted.release();  // the socket is its owner now
  order_.push_back(clients_.start(serve(std::move(socket)), ignored("it is this client that is gone")));
}

COHORT_INLINE asio::awaitable<void> health_server::serve(asio::ip::tcp::socket socket) {
  co_await with_timeout(answer(socket), max_time);
}

COHORT_INLINE asio::awaitable<void> health_server::answer(asio::ip::tcp::socket& socket) {
  constexpr std::string_view end_of_head = "\r\n\r\n";
  char piece[1024];
  std::string request;
  auto end = request.npos;
  while (end == request.npos && request.size() <= max_request) {
    const auto size = co_await socket.async_read_some(asio::buffer(piece), detail::awaited);
    request.append(piece, size);
    end = request.find(end_of_head);
  }
  const std::string text = end == request.npos
                               ? detail::http_answer("431 Request Header Fields Too Large", "too large\n", true)
                               : answer_to(std::string_view(request).substr(0, end));
  for (std::string_view rest = text; !rest.empty();) {
    const auto sent = co_await socket.async_send(asio::buffer(rest.data(), rest.size()), detail::awaited);
    rest.remove_prefix(sent);
  }
  // What is left unread would reset the connection, and the answer with it.
  socket.shutdown(asio::ip::tcp::socket::shutdown_send);
  for (;;) co_await socket.async_read_some(asio::buffer(piece), detail::awaited);
}

COHORT_INLINE std::string health_server::answer_to(std::string_view head) const {
  const auto line = head.substr(0, head.find("\r\n"));
  const auto first = line.find(' '), last = line.rfind(' ');
  if (first == line.npos || first == last || !line.substr(last + 1).starts_with("HTTP/1.")) {
    return detail::http_answer("400 Bad Request", "bad request\n", true);
  }
  const auto method = line.substr(0, first);
  const auto target = line.substr(first + 1, last - first - 1);
  const auto path = target.substr(0, target.find('?'));
  const bool get = method == "GET";
  if (!get && method != "HEAD") return detail::http_answer("405 Method Not Allowed\r\nAllow: GET, HEAD", "", true);
  if (path == "/healthz") return detail::http_answer("200 OK", "ok\n", get);
  if (path == "/readyz") {
    if (primary_.stats().in_service) return detail::http_answer("200 OK", "ready\n", get);
    return detail::http_answer("503 Service Unavailable", "not ready\n", get);
  }
  if (path != "/metrics") return detail::http_answer("404 Not Found", "not found\n", get);
  return detail::http_answer("200 OK", to_prometheus(primary_.stats()), get,
                             "text/plain; version=0.0.4; charset=utf-8");
}

}  // namespace cohort
