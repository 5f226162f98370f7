// SPDX-License-Identifier: BSL-1.0
// Asks a child: a question with news of its progress, one with too little time, one that cannot be answered, and many
// at once.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include <cohort/core/task_group.hpp>
#include <cohort/core/timeout.hpp>
#include <cohort/ipc/peer.hpp>

#include "protocol.hpp"

using asio::awaitable;
using namespace std::chrono_literals;

awaitable<void> ask_with_progress(cohort::peer<protocol>& child) {
  const count_primes question{1'000'000};
  const auto tell = [](progress so_far) { fmt::print("{} %\n", so_far.percent); };
  const auto answer = co_await child.call<primes>(question, tell);
  fmt::print("there are {} primes below {}\n", answer.count, question.below);
}

awaitable<void> ask_with_deadline(cohort::peer<protocol>& child) {
  const count_primes question{100'000'000};
  try {
    // When the time is over, the call is cancelled, and the child stops working on it.
    co_await cohort::with_timeout(child.call<primes>(question), 100ms);
    fmt::print("that was fast\n");
  } catch (const std::system_error& error) {
    if (error.code() != cohort::errc::timed_out) throw;
    fmt::print("no answer within 100 ms\n");
  }
}

awaitable<void> ask_too_much(cohort::peer<protocol>& child) {
  const count_primes question{100'000'001};
  try {
    co_await child.call<primes>(question);
  } catch (const std::system_error& error) {
    if (error.code() != cohort::errc::call_failed) throw;
    fmt::print("{}\n", error.what());
  }
}

awaitable<void> ask_one(cohort::peer<protocol>& child, std::uint32_t below, std::uint32_t& count) {
  const count_primes question{below};
  const auto answer = co_await child.call<primes>(question);
  count = answer.count;
}

awaitable<void> ask_many(cohort::peer<protocol>& child) {
  std::vector<std::uint32_t> counts(5);
  cohort::task_group calls(child.get_executor());
  std::uint32_t below = 1;
  for (auto& count : counts) {
    below *= 10;
    calls.start(ask_one(child, below, count), [](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
  }
  co_await calls.wait_empty();
  fmt::print("below 10, 100, 1000...: {}\n", fmt::join(counts, ", "));
}

awaitable<void> run() {
  const auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  auto child = co_await cohort::spawn<protocol>(cohort::command(here / "calls_child"));
  co_await ask_with_progress(child);
  co_await ask_with_deadline(child);
  co_await ask_too_much(child);
  co_await ask_many(child);
  co_await child.disconnect();
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
