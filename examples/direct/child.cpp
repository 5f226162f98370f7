// SPDX-License-Identifier: BSL-1.0
// Gets to know another child, and plays with it. The parent has no part in that.
//
//   direct_child NAME [serve]

#include <cstdint>
#include <cstdio>
#include <exception>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include <cohort/ipc/peer.hpp>

#include "protocol.hpp"

using asio::awaitable;

constexpr std::uint32_t last_ball = 9;

awaitable<void> run(std::string_view name, bool serves) {
  const auto executor = co_await asio::this_coro::executor;
  auto parent = cohort::parent<protocol>(executor);
  auto introduced = co_await parent.receive();
  if (!introduced) co_return;  // the parent has changed its mind
  cohort::channel<ball, ball> other(executor, std::move(introduced->channel).make(executor));

  report result;
  if (serves) {
    co_await other.send<ball>(0u);
    ++result.sent;
  }
  while (auto got = co_await other.receive()) {  // until the other one has had enough, or is gone
    ++result.received;
    fmt::print("{} has ball {} from {}\n", name, got->number, introduced->name);
    std::fflush(stdout);
    if (got->number == last_ball) break;
    co_await other.send<ball>(got->number + 1);
    ++result.sent;
  }
  co_await other.disconnect();
  co_await parent.send(result);
  co_await parent.disconnect();
}

int main(int argc, char* argv[]) {
  const std::string_view name = argc > 1 ? argv[1] : "child";
  try {
    asio::io_context context(1);
    asio::co_spawn(context, run(name, argc > 2), [](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
    context.run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", name, error.what());
    return 1;
  }
}
