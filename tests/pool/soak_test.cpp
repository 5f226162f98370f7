// SPDX-License-Identifier: BSL-1.0
// Many jobs of all sorts through one pool: each comes to its own end, and the pool is as good as before.
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <signal.h>

#include "../../include/cohort/core/task_group.hpp"
#include "../../include/cohort/pool/process_pool.hpp"
#include "../support/harness.hpp"
#include "pools.hpp"

namespace cohort::test::soak_test {
namespace {

constexpr int jobs = sanitized ? 300 : 1000;
constexpr int hang_each = sanitized ? 150 : 500;
constexpr auto deadline = sanitized ? 6000ms : 2500ms;  // those that hang take all of it, and the others never so long

enum class fate { answers, throws, crashes, exits, hangs, is_cancelled };

fate fate_of(int number) {
  if (number % hang_each == 7) return fate::hangs;
  if (number % 40 == 3) return fate::is_cancelled;
  if (number % 50 == 5) return fate::crashes;
  if (number % 60 == 11) return fate::exits;
  if (number % 20 == 13) return fate::throws;
  return fate::answers;
}

deed deed_of(int number) {
  switch (fate_of(number)) {
    case fate::answers: return to("echo", 0, std::string(static_cast<std::size_t>(number % 7 * 1000), 'x'));
    case fate::throws: return to("throw", 0, "no");
    case fate::crashes: return to("raise", SIGKILL);
    case fate::exits: return to("exit", 3);
    case fate::hangs: return to("wait", 600'000);
    case fate::is_cancelled: return to(number % 80 == 3 ? "wait" : "block", 600'000);
  }
  return {};
}

void check(int number, const outcome& seen) {
  CAPTURE(number);
  CAPTURE(seen.text);
  switch (fate_of(number)) {
    case fate::answers:
      CHECK_FALSE(seen.code);
      CHECK(seen.value.size() == static_cast<std::size_t>(number % 7 * 1000));
      break;
    case fate::throws: CHECK(seen.code == errc::job_threw); break;
    case fate::crashes:
      CHECK(seen.code == errc::job_crashed);
      CHECK(seen.status == exit_status::killed(SIGKILL));
      break;
    case fate::exits:
      CHECK(seen.code == errc::job_crashed);
      CHECK(seen.status == exit_status::exited(3));
      break;
    case fate::hangs: CHECK(seen.code == errc::timed_out); break;
    case fate::is_cancelled: CHECK(seen.code == operation_aborted()); break;
  }
}

// One of those that bring jobs, one after the other. Some jobs are cancelled while they wait, others while they run.
asio::awaitable<void> customer(process_pool<deed_job>& pool, int& next, int& ended) {
  while (next < jobs) {
    const int number = next++;
    outcome seen;
    if (fate_of(number) == fate::is_cancelled) {
      auto job = start(pool, deed_of(number));
      co_await sleep(std::chrono::milliseconds(number % 9));
      job.cancel();
      seen = co_await job.wait();
    } else {
      seen = co_await outcome_of(pool, deed_of(number));
    }
    check(number, seen);
    ++ended;
  }
}

}  // namespace

ASYNC_TEST("many jobs, of which some crash, hang or are cancelled, each come to their own end") {
  const auto executor = co_await asio::this_coro::executor;
  auto options = pool_of(4);
  options.deadline = deadline;
  options.max_jobs = 200;
  process_pool<deed_job> pool(executor, options);
  int next = 0, ended = 0;
  task_group customers(executor);
  for (int i = 0; i < 24; ++i) {
    customers.start(customer(pool, next, ended), [](std::exception_ptr failure) { CHECK_FALSE(failure); });
  }
  co_await customers.wait_empty();
  CHECK(ended == jobs);
  CHECK(pool.stats().running == 0);
  CHECK(pool.stats().waiting == 0);
  CHECK(pool.stats().processes <= 4);

  // All four work again.
  std::vector<deed> same_time(4, to("block", 50));
  std::vector<deed> again(100, to("pid"));
  co_await pool.map(same_time);
  const auto pids = co_await pool.map(again);
  CHECK(pids.size() == 100);
  CHECK(pool.stats().processes == 4);
  co_await pool.close();
  CHECK(pool.stats().processes == 0);
}

}  // namespace cohort::test::soak_test
