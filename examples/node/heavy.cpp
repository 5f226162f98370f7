// SPDX-License-Identifier: BSL-1.0
// The heavy work of server.js, which starts this program by child_process.fork() as if it were a script of its own.

#include <cstdio>
#include <exception>

#include <fmt/format.h>

#include <cohort/core/run_sync.hpp>
#include <cohort/ipc/node/peer.hpp>

#include "heavy.hpp"

using cohort::asio::awaitable;

bool is_prime(std::uint32_t n) {
  if (n % 2 == 0) return n == 2;
  for (std::uint32_t divisor = 3; divisor * divisor <= n; divisor += 2) {
    if (n % divisor == 0) return false;
  }
  return n > 1;
}

awaitable<void> run() {
  auto parent = cohort::parent<protocol, cohort::node_wire>(co_await cohort::asio::this_coro::executor);
  while (const auto question = co_await parent.receive()) {  // until Node disconnects, or is gone
    primes answer{question->id, 0};
    for (std::uint32_t n = 0; n < question->below; ++n) answer.count += is_prime(n) ? 1 : 0;
    co_await parent.send(answer);
  }
}

int main() {
  try {
    cohort::run_sync(run());
  } catch (const std::exception& error) {
    fmt::print(stderr, "heavy: {}\n", error.what());
    return 1;
  }
}
