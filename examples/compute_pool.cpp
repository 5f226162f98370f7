// SPDX-License-Identifier: BSL-1.0
// An HTTP server with one thread and a pool of processes that compute. It answers while it computes, with the progress,
// and kills a computation for which nobody waits any longer.
//
//   /               what the pool does
//   /compute?n=N    counts the primes up to N: a line for each percent that is done, and then the number
//
//   compute_pool [PORT]      at Ctrl-C or SIGTERM finishes what it computes, and ends

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <signal.h>

#include <asio/experimental/awaitable_operators.hpp>
#include <cohort/core/timeout.hpp>
#include <cohort/pool/process_pool.hpp>

#include "http.hpp"

using asio::awaitable;
using asio::use_awaitable;
using asio::ip::tcp;
using namespace std::chrono_literals;

bool is_prime(std::uint64_t n) {
  for (std::uint64_t divisor = 2; divisor * divisor <= n; ++divisor) {
    if (n % divisor == 0) return false;
  }
  return n >= 2;
}

struct count_primes {
  using argument = std::uint64_t;
  using result = std::uint64_t;
  using progress = unsigned;  // percent

  // In a process of the pool.
  static awaitable<std::uint64_t> run(std::uint64_t last, cohort::job_context<count_primes>& context) {
    std::uint64_t primes = 0;
    unsigned reported = 0;
    for (std::uint64_t n = 0; n <= last; ++n) {
      primes += is_prime(n) ? 1 : 0;
      const auto percent = static_cast<unsigned>(100 * n / (last + 1));
      if (percent == reported) continue;
      reported = percent;
      co_await context.report(percent);
    }
    co_return primes;
  }
};

using prime_pool = cohort::process_pool<count_primes>;

class connection {
 public:
  connection(tcp::socket socket, prime_pool& pool) : socket_(std::move(socket)), pool_(pool) {
    socket_.non_blocking(true);
  }

  /// One request, one answer.
  awaitable<void> serve() {
    const bool complete = co_await cohort::with_timeout(read_request(), 10s);
    if (!complete && !request_.failed()) co_return;
    std::uint64_t n = 0;
    std::string body;
    http::answer answer{HTTP_STATUS_NOT_FOUND, "not found\n"};
    if (request_.failed()) {
      answer = http::bad_request(request_);
    } else if (request_.path() == "/") {
      const auto now = pool_.stats();
      body = fmt::format("{} running, {} waiting, {} processes\n", now.running, now.waiting, now.processes);
      answer = {HTTP_STATUS_OK, body};
    } else if (request_.path() == "/compute" && !parse_query(n)) {
      answer = {HTTP_STATUS_BAD_REQUEST, "want /compute?n=N, with N from 0 to 1000000000\n"};
    } else if (request_.path() == "/compute" && pool_.is_full()) {
      answer = {HTTP_STATUS_SERVICE_UNAVAILABLE, "too much to compute, try again later\n"};
    } else if (request_.path() == "/compute") {
      co_return co_await compute(n);
    }
    http::append(output_, request_, answer, true);
    co_await http::write(socket_, output_);
    co_await http::end(socket_, true);
  }

 private:
  // True if there is one, false if the client has left or talks nonsense.
  awaitable<bool> read_request() {
    for (bool here = true; here && !request_.failed();) {
      here = co_await read();
      std::string_view input(bytes_.data(), size_);
      if (request_.parse(input)) co_return true;
    }
    co_return false;
  }

  bool parse_query(std::uint64_t& n) const {
    const auto query = request_.query();
    return query.starts_with("n=") && http::parse_number<std::uint64_t>(query.substr(2), 0, 1'000'000'000, n);
  }

  awaitable<void> compute(std::uint64_t n) {
    using namespace asio::experimental::awaitable_operators;
    output_ = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n";
    output_ += request_.is_http_1_0() ? "\r\n" : "Transfer-Encoding: chunked\r\n\r\n";
    co_await http::write(socket_, output_);
    // Whichever ends first cancels the other: to cancel the job kills the process that has it.
    const auto first = co_await (count(n) || leaves());
    if (first.index() == 0) co_await http::end(socket_, true);
  }

  awaitable<void> count(std::uint64_t n) {
    const auto show = [this](unsigned percent) -> awaitable<void> { return say(fmt::format("{} %\n", percent)); };
    try {
      const auto primes = co_await pool_.run_with_progress(show, n);
      co_await say(fmt::format("there are {} primes up to {}\n", primes, n));
      if (!request_.is_http_1_0()) output_ = "0\r\n\r\n";
      co_await http::write(socket_, output_);
    } catch (const cohort::job_failed& failed) {
      // The client sees that the answer is cut off.
      fmt::print(stderr, "{}\n", failed.what());
    }
  }

  awaitable<void> say(std::string line) {
    output_ = request_.is_http_1_0() ? std::move(line) : fmt::format("{:x}\r\n{}\r\n", line.size(), line);
    return http::write(socket_, output_);
  }

  // Waits until the client has closed its side.
  awaitable<void> leaves() {
    for (bool here = true; here;) here = co_await read();
  }

  // False if the client has closed its side.
  awaitable<bool> read() {
    co_await socket_.async_wait(tcp::socket::wait_read, use_awaitable);
    std::error_code error;
    size_ = socket_.read_some(asio::buffer(bytes_), error);
    co_return !error || error == asio::error::would_block;
  }

  tcp::socket socket_;
  prime_pool& pool_;
  http::request_parser request_;
  std::array<char, 8192> bytes_;
  std::size_t size_ = 0;  // of what was read last
  std::string output_;
};

awaitable<void> serve(tcp::socket socket, prime_pool& pool) {
  try {
    connection client(std::move(socket), pool);
    co_await client.serve();
  } catch (const std::system_error&) {
    // The client has reset the connection, or takes too long.
  }
}

awaitable<void> listen(tcp::acceptor& acceptor, prime_pool& pool) {
  while (acceptor.is_open()) {
    std::error_code error;
    auto socket = co_await acceptor.async_accept(asio::redirect_error(use_awaitable, error));
    if (!error) asio::co_spawn(acceptor.get_executor(), serve(std::move(socket), pool), asio::detached);
  }
}

awaitable<void> stop_at_signal(tcp::acceptor& acceptor, prime_pool& pool) {
  asio::signal_set signals(acceptor.get_executor(), SIGINT, SIGTERM);
  co_await signals.async_wait(use_awaitable);
  acceptor.close();
  co_await pool.close();
}

int main(int argc, char* argv[]) {
  if (const auto status = cohort::pool::serve_if_worker<count_primes>()) return *status;
  std::uint16_t port = 8000;
  if (argc > 1 && !http::parse_number<std::uint16_t>(argv[1], 0, 65535, port)) {
    fmt::print(stderr, "usage: compute_pool [PORT]\n");
    return 2;
  }
  try {
    asio::io_context context(1);
    cohort::pool_options options;
    options.processes = 2;
    options.queue = 4;
    options.deadline = 10min;
    prime_pool pool(context.get_executor(), options);
    tcp::acceptor acceptor(context, tcp::endpoint(asio::ip::address_v4::loopback(), port));
    fmt::print("listening on 127.0.0.1:{}\n", acceptor.local_endpoint().port());
    std::fflush(stdout);
    asio::co_spawn(context, listen(acceptor, pool), asio::detached);
    asio::co_spawn(context, stop_at_signal(acceptor, pool), asio::detached);
    context.run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "compute_pool: {}\n", error.what());
    return 1;
  }
}
