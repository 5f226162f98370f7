// SPDX-License-Identifier: BSL-1.0
// Logins that all workers of an HTTP cluster know, because they keep them in a Redis.
//
//   POST /login?user=NAME    begins a session, which lasts an hour: its id is in a cookie
//   GET  /whoami             says whose session it is, and which worker has looked it up
//   POST /logout             ends the session
//
//   sessions --listen 127.0.0.1:8000 --workers 4 --redis 127.0.0.1:6379
//
//   curl -c cookies -X POST '127.0.0.1:8000/login?user=ada'; curl -b cookies 127.0.0.1:8000/whoami
//
// Where no Redis is, nothing starts. One that goes away later costs its requests a 503, until it is there again.
// There are no passwords here: check them before /login answers.

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <signal.h>
#include <sys/random.h>

#include <cohort/cohort.hpp>

#include "../http.hpp"
#include "redis.hpp"

using asio::awaitable;
using asio::use_awaitable;
using asio::ip::tcp;

struct response {
  response(http_status code, std::string text, std::string lines = {})  // GCC 12: no aggregate of strings to co_return
      : status(code), body(std::move(text)), headers(std::move(lines)) {}

  http_status status;
  std::string body, headers;
};

std::string random_id() {
  std::array<std::uint64_t, 2> bits;
  if (::getrandom(bits.data(), sizeof(bits), 0) != sizeof(bits)) cohort::throw_error("getrandom", errno);
  return fmt::format("{:016x}{:016x}", bits[0], bits[1]);
}

bool is_id(std::string_view text) {
  return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == text.npos;
}

bool is_user(std::string_view text) {
  constexpr auto allowed = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz-.";
  return !text.empty() && text.size() <= 64 && text.find_first_not_of(allowed) == text.npos;
}

/// The key of the session that a request belongs to, if its cookies name one.
std::optional<std::string> session_key(const http::request_parser& request) {
  constexpr std::string_view name = "session=";
  for (std::string_view cookies = request.header(); !cookies.empty();) {
    auto cookie = cookies.substr(0, cookies.find(';'));
    cookies.remove_prefix(std::min(cookie.size() + 1, cookies.size()));
    cookie.remove_prefix(std::min(cookie.find_first_not_of(' '), cookie.size()));
    if (cookie.starts_with(name) && is_id(cookie.substr(name.size()))) {
      return fmt::format("session:{}", cookie.substr(name.size()));
    }
  }
  return std::nullopt;
}

std::string set_cookie(std::string_view id, unsigned seconds) {
  return fmt::format("Set-Cookie: session={}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax\r\n", id, seconds);
}

awaitable<response> log_in(const http::request_parser& request, redis::client& redis) {
  constexpr std::string_view name = "user=";
  const auto query = request.query();
  const auto user = query.starts_with(name) ? query.substr(name.size()) : std::string_view();
  if (!is_user(user)) {
    co_return response(HTTP_STATUS_BAD_REQUEST, "want /login?user=NAME, of 1 to 64 letters, digits, _, - and .\n");
  }
  const auto id = random_id();
  const auto key = fmt::format("session:{}", id);
  co_await redis.command("SET", key, user, "EX", "3600");
  co_return response(HTTP_STATUS_OK, fmt::format("welcome, {}\n", user), set_cookie(id, 3600));
}

awaitable<response> who_am_i(const http::request_parser& request, redis::client& redis, unsigned worker) {
  const auto key = session_key(request);
  redis::reply user;
  if (key) user = co_await redis.command("GET", *key);
  if (!user.text) co_return response(HTTP_STATUS_UNAUTHORIZED, "nobody\n");
  co_return response(HTTP_STATUS_OK, fmt::format("{}, from worker {}\n", *user.text, worker));
}

awaitable<response> log_out(const http::request_parser& request, redis::client& redis) {
  const auto key = session_key(request);
  redis::reply deleted;
  if (key) deleted = co_await redis.command("DEL", *key);
  if (deleted.number == 0) co_return response(HTTP_STATUS_UNAUTHORIZED, "nobody\n");
  co_return response(HTTP_STATUS_OK, "goodbye\n", set_cookie("", 0));
}

awaitable<response> answer(const http::request_parser& request, redis::client& redis, unsigned worker) {
  const auto path = request.path();
  const bool known = path == "/login" || path == "/whoami" || path == "/logout";
  if (!known) co_return response(HTTP_STATUS_NOT_FOUND, "not found\n");
  const auto method = path == "/whoami" ? HTTP_GET : HTTP_POST;
  if (request.method() != method) {
    const std::string_view wanted = ::http_method_str(method);
    co_return response(HTTP_STATUS_METHOD_NOT_ALLOWED, fmt::format("want {} {}\n", wanted, path),
                       fmt::format("Allow: {}\r\n", wanted));
  }
  std::string reason;
  try {
    if (path == "/login") co_return co_await log_in(request, redis);
    if (path == "/logout") co_return co_await log_out(request, redis);
    co_return co_await who_am_i(request, redis, worker);
  } catch (const redis::error& error) {
    reason = error.what();
  }
  co_return response(HTTP_STATUS_SERVICE_UNAVAILABLE, reason + '\n');
}

awaitable<void> serve_connection(tcp::socket socket, cohort::worker& self, redis::client& redis) {
  http::request_parser request("Cookie");
  std::array<char, 8192> bytes;
  std::string_view input;
  std::string output;  // all the answers to what was read at once
  bool close = false;

  socket.non_blocking(true);
  socket.set_option(tcp::no_delay(true));
  while (!close) {
    // Between two requests the connection is idle, and ends when the worker drains; not so in the middle of one.
    if (request.in_request()) {
      co_await socket.async_wait(tcp::socket::wait_read, use_awaitable);
    } else {
      const bool more = co_await self.readable(socket);
      if (!more) co_return;
    }
    std::error_code error;
    input = std::string_view(bytes.data(), socket.read_some(asio::buffer(bytes), error));
    if (error == asio::error::would_block) continue;
    if (error) co_return;  // the client has left

    // One after the other: a client that pipelines may log in with one request and expect the next one to know.
    while (!close && request.parse(input)) {
      const response what = co_await answer(request, redis, self.slot());
      close = !request.keep_alive() || (self.draining() && input.empty());
      http::append(output, request, {what.status, what.body, what.headers}, close);
    }
    if (request.failed()) {
      http::append(output, request, http::bad_request(request), true);
      close = true;
    }
    if (!output.empty()) co_await http::write(socket, output);
  }
  co_await http::end(socket, true);
}

struct settings {
  std::string listen = "127.0.0.1:8000";
  unsigned workers = 4;
  redis::address redis{"127.0.0.1:6379"};
};

settings parse_options(int argc, char* argv[]) {
  settings result;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view option = argv[i];
    const std::string value = i + 1 < argc ? argv[i + 1] : "";
    if (option == "--listen") {
      result.listen = cohort::to_string(cohort::parse_endpoint(value));
    } else if (option == "--workers" && http::parse_number(value, 1u, 1024u, result.workers)) {
      continue;
    } else if (option == "--redis") {
      result.redis = redis::address(value);
    } else {
      throw std::invalid_argument(fmt::format("not understood: {} {}", option, value));
    }
  }
  return result;
}

awaitable<void> check(const redis::address& where) {
  redis::client redis(co_await asio::this_coro::executor, where);
  co_await redis.command("PING");
}

int main(int argc, char* argv[]) {
  settings wanted;
  try {
    wanted = parse_options(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr,
               "sessions: {}\n"
               "usage: sessions [--listen ADDRESS:PORT] [--workers N] [--redis ADDRESS:PORT|unix:/PATH]\n",
               error.what());
    return 2;
  }
  try {
    // In the primary: one clear word about it, instead of one from each worker. SIGPIPE: see redis::client.
    ::signal(SIGPIPE, SIG_IGN);
    if (!cohort::has_parent()) cohort::run_sync(check(wanted.redis));
  } catch (const std::exception& error) {
    fmt::print(stderr, "sessions: {}\n", error.what());
    return 1;
  }

  std::optional<redis::client> redis;  // of a worker, as long as its loop lives
  cohort::worker_options worker;
  worker.set_up = [&](cohort::worker& self) -> awaitable<void> {
    redis.emplace(self.get_executor(), wanted.redis);
    co_await redis->command("PING");
  };
  worker.tear_down = [&](cohort::worker&) -> awaitable<void> {
    redis.reset();
    co_return;
  };
  // A worker that is replaced while Redis is away waits for it, however long that takes.
  cohort::restart_policy restart;
  restart.max_failed_boots = std::numeric_limits<std::size_t>::max();
  restart.max_backoff = std::chrono::seconds(5);

  cohort::cluster_options options;
  options.listen = {wanted.listen};
  options.workers = wanted.workers;
  options.worker = worker;
  options.restart = restart;
  options.on_event = [](const cohort::cluster_event& event) {
    std::FILE* const stream = event.what == cohort::cluster_event::kind::listening ? stdout : stderr;
    fmt::print(stream, "{}\n", cohort::to_string(event));
    std::fflush(stream);
  };
  return cohort::serve(options, [&](tcp::socket socket, cohort::worker& self) {
    return serve_connection(std::move(socket), self, *redis);
  });
}
