// SPDX-License-Identifier: BSL-1.0
// Answers what its parent asks, several questions at a time, and says how far it is.

#include <cstdint>
#include <cstdio>
#include <exception>
#include <stdexcept>

#include <fmt/format.h>

#include <cohort/ipc/peer.hpp>

#include "protocol.hpp"

using asio::awaitable;
using asio::use_awaitable;

bool is_prime(std::uint32_t n) {
  if (n % 2 == 0) return n == 2;
  for (std::uint32_t divisor = 3; divisor * divisor <= n; divisor += 2) {
    if (n % divisor == 0) return false;
  }
  return n > 1;
}

/// Called for each question, in a coroutine of its own. An exception goes to the one who asked.
awaitable<primes> answer(count_primes question, cohort::caller<protocol::to_parent>& who) {
  constexpr std::uint32_t most = 100'000'000;
  if (question.below > most) throw std::invalid_argument(fmt::format("at most {}", most));

  const auto executor = co_await asio::this_coro::executor;
  primes result{0};
  std::uint32_t told = 0;
  for (std::uint32_t n = 0; n < question.below; ++n) {
    if (is_prime(n)) ++result.count;
    if (n % 1000 != 0) continue;
    // Lets other questions have their turn. If whoever asked does not wait any more, this is where it ends: the
    // cancellation of the call arrives as an exception.
    co_await asio::post(executor, use_awaitable);
    const auto percent = static_cast<std::uint32_t>(std::uint64_t{n} * 100 / question.below);
    if (percent < told + 25) continue;
    told = percent / 25 * 25;
    const progress so_far{told};
    co_await who.progress(so_far);
  }
  co_return result;
}

awaitable<void> run() {
  auto parent = cohort::parent<protocol>(co_await asio::this_coro::executor);
  co_await parent.serve_calls(answer);  // until the parent disconnects, or is gone
}

int main() {
  try {
    asio::io_context context(1);
    asio::co_spawn(context, run(), [](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
    context.run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "child: {}\n", error.what());
    return 1;
  }
}
