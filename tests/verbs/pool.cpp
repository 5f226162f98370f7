// SPDX-License-Identifier: BSL-1.0
// What tests of the pool folder have a child do.
#include <cstdio>
#include <exception>
#include <string>
#include <thread>

#include <sys/resource.h>

#include "../../include/cohort/pool/process_pool.hpp"
#include "../pool/jobs.hpp"
#include "verb.hpp"

namespace cohort::test::pool_verbs {
namespace {

// The program of a pool's processes. `late=MS`: it takes its time to get ready.
const verb pool_worker("pool-worker", [](const verb::arguments& arguments) {
  for (const auto& each : arguments) {
    if (each.starts_with("late=")) std::this_thread::sleep_for(std::chrono::milliseconds(std::stol(each.substr(5))));
  }
  return pool::worker_main<deed_job, steps_job, handle_job, touch_job, prime_job, join_job, forty_two_job,
                           nothing_job, upper_case_job, several_job, later_job, reference_job>();
});

void run(asio::awaitable<void> main) {
  asio::io_context context;
  asio::co_spawn(context, std::move(main), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
  context.run();
}

asio::awaitable<void> count_primes() {
  process_pool<prime_job> pool(co_await asio::this_coro::executor);
  int found = 0;
  for (std::uint64_t n = 0; n < 100; ++n) {
    const bool prime = co_await pool.run(n);
    found += prime ? 1 : 0;
  }
  std::printf("%d\n", found);
  std::fflush(stdout);
  co_await pool.close();
}

// A program whose processes are itself. Says how many primes there are below 100.
const verb pool_self("pool-self", [](const verb::arguments&) {
  if (const auto status = pool::serve_if_worker<prime_job>()) return *status;
  run(count_primes());
  return 0;
});

// One that has forgotten what comes first.
const verb pool_forgot("pool-forgot", [](const verb::arguments&) {
  run(count_primes());
  return 0;
});

asio::awaitable<void> hang(const std::string& path) {
  pool_options options;
  options.program = command("/proc/self/exe", "pool-worker");
  process_pool<deed_job> pool(co_await asio::this_coro::executor, options);
  deed todo;
  todo.what = "hang";
  todo.text = path;
  co_await pool.run(todo);
}

// Has a process of its pool write its pid to a file and hang.
const verb pool_parent("pool-parent", [](const verb::arguments& arguments) {
  run(hang(arguments.at(0)));
  return 0;
});

}  // namespace
}  // namespace cohort::test::pool_verbs
