// SPDX-License-Identifier: BSL-1.0
// Does the jobs that its parent sends, until it is told to stop or the parent is gone.

#include <cstdint>
#include <cstdio>
#include <exception>
#include <variant>

#include <fmt/format.h>

#include <cohort/ipc/peer.hpp>

#include "protocol.hpp"

using asio::awaitable;

double sum(const job& work) {
  double total = 0;
  for (std::uint64_t n = work.from; n <= work.to; ++n) total += 1.0 / (static_cast<double>(n) * static_cast<double>(n));
  return total;
}

awaitable<void> run() {
  auto parent = cohort::parent<protocol>(co_await asio::this_coro::executor);
  while (const auto message = co_await parent.receive()) {
    const auto* work = std::get_if<job>(&*message);
    if (work == nullptr) co_return;
    co_await parent.send<result>(sum(*work));
  }
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
