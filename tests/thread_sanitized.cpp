// SPDX-License-Identifier: BSL-1.0
// A program that is built with ThreadSanitizer: child processes, channels and time limits in several threads. Each has
// a loop of its own first; then all share one executor, and each scene has a strand. Exits with 0 if all went well.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <asio/thread_pool.hpp>

#include "../include/cohort/core/run_sync.hpp"
#include "../include/cohort/core/task_group.hpp"
#include "../include/cohort/core/timeout.hpp"
#include "../include/cohort/ipc/channel.hpp"
#include "../include/cohort/ipc/channel_pair.hpp"
#include "../include/cohort/process/exec.hpp"
#include "../include/cohort/process/spawn.hpp"

namespace {

namespace asio = cohort::asio;

constexpr auto far_off = std::chrono::minutes(1);
constexpr std::uint64_t questions = 50;

struct number {
  std::uint64_t value = 0;
};
using numbers = cohort::channel<number, number>;

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "this does not hold: %s\n", what);
  std::exit(1);
}

/// Sends back what comes, until the other end disconnects.
asio::awaitable<void> answer(cohort::descriptor socket) {
  numbers end(co_await asio::this_coro::executor, std::move(socket));
  while (const auto got = co_await end.receive()) co_await end.send<number>(got->value);
}

asio::awaitable<void> ask(cohort::descriptor socket) {
  numbers end(co_await asio::this_coro::executor, std::move(socket));
  for (std::uint64_t i = 0; i < questions; ++i) {
    co_await end.send<number>(i);
    const auto got = co_await cohort::with_timeout(end.receive(), far_off);
    expect(got && got->value == i, "each answer is the number that was sent");
  }
  co_await end.disconnect();
}

asio::awaitable<void> start_with_all_steps() {
  cohort::command what("/bin/sh", "-c", "exit 3");
  what.cwd("/").umask(022).nice(19).limit(RLIMIT_CORE, 0, 0).ignore_signal(SIGHUP).in(cohort::stdio::null);
  what.out(cohort::stdio::pipe).err(cohort::stdio::same_as(1)).fd(7, cohort::stdio::null).new_session();
  auto started = co_await cohort::spawn(what);
  const auto status = co_await started.wait();
  expect(status.code() == 3, "the status of a child arrives");
}

asio::awaitable<void> run_to_end() {
  const cohort::command what("echo", "here");
  const auto done = co_await cohort::with_timeout(cohort::exec_file(what), far_off);
  expect(done.out == "here\n", "the output of a program arrives");
}

/// All at once, on the executor of the caller, of which only one thread at a time runs anything.
asio::awaitable<void> all_at_once() {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = cohort::make_channel_pair();
  cohort::task_group group(executor);
  group.start(answer(std::move(ends.first)));
  group.start(ask(std::move(ends.second)));
  for (int i = 0; i < 2; ++i) {
    group.start(start_with_all_steps());
    group.start(run_to_end());
  }
  co_await group.wait_empty();
}

void in_threads_of_their_own() {
  auto ends = cohort::make_channel_pair();  // of two threads
  std::vector<std::thread> threads;
  threads.emplace_back([&] { cohort::run_sync(answer(std::move(ends.first))); });
  threads.emplace_back([&] { cohort::run_sync(ask(std::move(ends.second))); });
  for (int i = 0; i < 2; ++i) threads.emplace_back([] { cohort::run_sync(all_at_once()); });
  for (auto& each : threads) each.join();
}

void on_strands() {
  constexpr int scenes = 3;
  std::atomic<int> ended{0};
  asio::thread_pool threads(3);
  for (int i = 0; i < scenes; ++i) {
    asio::co_spawn(asio::make_strand(threads), all_at_once(), [&](const std::exception_ptr& failure) {
      if (failure) std::rethrow_exception(failure);
      ++ended;
    });
  }
  threads.join();
  expect(ended == scenes, "each scene on a strand has ended");
}

}  // namespace

int main() {
  in_threads_of_their_own();
  on_strands();
  return 0;
}
