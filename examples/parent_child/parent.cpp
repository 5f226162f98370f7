// SPDX-License-Identifier: BSL-1.0
// Starts a child, has it calculate something, and tells how it ended.

#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <stdexcept>

#include <fmt/format.h>

#include <cohort/ipc/peer.hpp>

#include "protocol.hpp"

using asio::awaitable;

awaitable<void> run() {
  const auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  auto child = co_await cohort::spawn<protocol>(cohort::command(here / "child"));

  constexpr std::uint64_t last = 1'000'000;
  co_await child.send<job>(1u, last);
  const auto answer = co_await child.receive();
  if (!answer) throw std::runtime_error("the child left without an answer");
  fmt::print("the sum of 1/n² for n from 1 to {} is {:.6f}\n", last, answer->sum);

  co_await child.send<stop>();
  const auto status = co_await child.wait();
  fmt::print("the child {}\n", status);
}

int main() {
  try {
    asio::io_context context(1);
    asio::co_spawn(context, run(), [](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
    context.run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "parent: {}\n", error.what());
    return 1;
  }
}
