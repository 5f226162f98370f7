// SPDX-License-Identifier: BSL-1.0
// An HTTP server with one thread that stays responsive while it computes, because others do that: each computation runs
// in a child process, which is killed when the client does not wait for it any longer.
//
//   /               answers at once
//   /compute?n=N    the number of primes up to N, counted the slow way
//
//   compute_offload [PORT]

#include <array>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include <asio/experimental/awaitable_operators.hpp>
#include <cohort/core/event.hpp>
#include <cohort/ipc/peer.hpp>
#include <cohort/process/this_process.hpp>

#include "http.hpp"

using asio::awaitable;
using asio::use_awaitable;
using asio::ip::tcp;

struct job {
  std::uint64_t n;
};

struct result {
  std::uint64_t primes;
};

struct protocol {
  using to_child = job;
  using to_parent = result;
};

// In the child.

bool is_prime(std::uint64_t n) {
  for (std::uint64_t divisor = 2; divisor * divisor <= n; ++divisor) {
    if (n % divisor == 0) return false;
  }
  return n >= 2;
}

awaitable<void> compute() {
  auto parent = cohort::parent<protocol>(co_await asio::this_coro::executor);
  while (const auto work = co_await parent.receive()) {
    cohort::this_process::set_title(fmt::format("primes up to {}", work->n));
    std::uint64_t primes = 0;
    for (std::uint64_t n = 0; n <= work->n; ++n) primes += is_prime(n) ? 1 : 0;
    co_await parent.send<result>(primes);
  }
}

// In the server.

class connection {
 public:
  explicit connection(tcp::socket socket) : socket_(std::move(socket)) { socket_.non_blocking(true); }

  awaitable<void> serve() {
    bool last = false, here = true;
    while (here && !last) {
      std::string_view rest = input_;
      const bool complete = request_.parse(rest);
      input_.erase(0, input_.size() - rest.size());
      if (!complete && !request_.failed()) {
        here = co_await read();
        continue;
      }
      std::string body;
      http::answer answer = http::bad_request(request_);
      if (complete) answer = co_await respond(body);
      if (gone_) co_return;
      last = request_.failed() || !request_.keep_alive();
      std::string output;
      http::append(output, request_, answer, last);
      co_await http::write(socket_, output);
    }
    if (here) co_await http::end(socket_, true);
  }

 private:
  static constexpr unsigned children_at_most = 4;
  static inline unsigned children_ = 0;

  // The answer's body may stand in `body`.
  awaitable<http::answer> respond(std::string& body) {
    http::answer answer{HTTP_STATUS_OK, "GET /compute?n=N counts the primes up to N\n"};
    std::uint64_t n = 0;
    const auto path = request_.path();
    const auto query = request_.query();
    if (path == "/") co_return answer;
    if (path != "/compute") {
      answer = {HTTP_STATUS_NOT_FOUND, "not found\n"};
    } else if (!query.starts_with("n=") || !http::parse_number<std::uint64_t>(query.substr(2), 0, 1'000'000'000, n)) {
      answer = {HTTP_STATUS_BAD_REQUEST, "want /compute?n=N, with N from 0 to 1000000000\n"};
    } else if (children_ == children_at_most) {
      answer = {HTTP_STATUS_SERVICE_UNAVAILABLE, "too much to compute, try again later\n"};
    } else {
      std::optional<std::uint64_t> primes;
      try {
        primes = co_await count_primes(n);
      } catch (const std::system_error& error) {
        fmt::print(stderr, "primes up to {}: {}\n", n, error.what());
      }
      if (primes) body = fmt::format("there are {} primes up to {}\n", *primes, n);
      answer = {HTTP_STATUS_OK, body};
      if (!primes) answer = {HTTP_STATUS_INTERNAL_SERVER_ERROR, "the computation has failed\n"};
    }
    co_return answer;
  }

  // Nothing if the child has failed, or was ended because the client is gone.
  awaitable<std::optional<std::uint64_t>> count_primes(std::uint64_t n) {
    using namespace asio::experimental::awaitable_operators;
    const counted one_more;
    cohort::command again("/proc/self/exe");
    auto child = co_await cohort::spawn<protocol>(std::move(again));
    fmt::print("primes up to {}: the child has pid {}\n", n, child.pid());
    std::fflush(stdout);
    co_await child.send<job>(n);
    const auto first = co_await (child.receive() || leaves());
    gone_ = first.index() == 1;
    if (gone_) co_return std::nullopt;  // to destroy the child kills it
    const auto& answer = std::get<0>(first);
    if (!answer) co_return std::nullopt;
    co_return answer->primes;
  }

  // Waits until the client has closed its side. What it sends meanwhile is kept for later.
  awaitable<void> leaves() {
    constexpr std::size_t kept_at_most = 64 * 1024;
    bool here = true;
    while (here && input_.size() < kept_at_most) here = co_await read();
    cohort::event never(socket_.get_executor());
    if (here) co_await never.wait();
  }

  // False if the client has closed its side.
  awaitable<bool> read() {
    co_await socket_.async_wait(tcp::socket::wait_read, use_awaitable);
    std::array<char, 8192> bytes;
    std::error_code error;
    const auto size = socket_.read_some(asio::buffer(bytes), error);
    input_.append(bytes.data(), size);
    co_return !error || error == asio::error::would_block;
  }

  struct counted {
    counted() { ++children_; }
    ~counted() { --children_; }
  };

  tcp::socket socket_;
  http::request_parser request_;
  std::string input_;  // read, and not yet parsed
  bool gone_ = false;
};

awaitable<void> serve(tcp::socket socket) {
  connection client(std::move(socket));
  try {
    co_await client.serve();
  } catch (const std::system_error&) {
    // The client has reset the connection, or takes too long to close it.
  }
}

awaitable<void> listen(std::uint16_t port) {
  const auto executor = co_await asio::this_coro::executor;
  tcp::acceptor acceptor(executor, tcp::endpoint(asio::ip::address_v4::loopback(), port));
  fmt::print("listening on 127.0.0.1:{}\n", acceptor.local_endpoint().port());
  std::fflush(stdout);
  for (;;) {
    auto socket = co_await acceptor.async_accept(use_awaitable);
    asio::co_spawn(executor, serve(std::move(socket)), asio::detached);
  }
}

// Ends at Ctrl-C or SIGTERM, and its children with it (cohort::command::die_with_parent).
int main(int argc, char* argv[]) {
  std::uint16_t port = 8000;
  if (argc > 1 && !http::parse_number<std::uint16_t>(argv[1], 0, 65535, port)) {
    fmt::print(stderr, "usage: compute_offload [PORT]\n");
    return 2;
  }
  try {
    asio::io_context context(1);
    asio::co_spawn(context, cohort::has_parent() ? compute() : listen(port), [](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
    context.run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "compute_offload: {}\n", error.what());
    return 1;
  }
}
