// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/pool/completions.hpp"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <ranges>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "../support/cancellation.hpp"
#include "../support/harness.hpp"
#include "pools.hpp"

namespace cohort::test::completions_test {

ASYNC_TEST("map gives its results in the order of the range, however long each takes") {
  process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(2));
  std::vector<deed> todo;
  for (int i = 0; i < 6; ++i) todo.push_back(to("echo", 0, std::to_string(i)));
  todo.insert(todo.begin(), to("block", 50));
  const auto texts = co_await pool.map(todo);
  CHECK(texts == std::vector<std::string>{"done", "0", "1", "2", "3", "4", "5"});
  CHECK(pool.stats().started == 2);
  co_await pool.close();
}

ASYNC_TEST("map takes any range, and an empty one") {
  process_pool<prime_job> pool(co_await asio::this_coro::executor, pool_of(2));
  const auto primes = co_await pool.map(std::views::iota(0u, 12u));
  const std::vector<bool> expected{false, false, true, true, false, true, false, true, false, false, false, true};
  CHECK(primes == expected);
  auto none = co_await pool.map(std::vector<std::uint64_t>());
  CHECK(none.empty());
  std::vector<std::uint64_t> moved{7, 8};
  none = co_await pool.map(std::move(moved));
  CHECK(none == std::vector<bool>{true, false});
  co_await pool.close();
}

ASYNC_TEST("map of jobs without results completes when all are done") {
  const scratch files;
  process_pool<touch_job> pool(co_await asio::this_coro::executor, pool_of(2));
  const std::vector<std::string> paths{files / "a", files / "b", files / "c"};
  co_await pool.map(paths);
  for (const auto& each : paths) CHECK(std::filesystem::exists(each));
  const auto error = co_await error_of(pool.map(paths));
  CHECK(error == errc::job_threw);
  co_await pool.close();
}

ASYNC_TEST("map throws what the first job throws that fails, and kills the others") {
  process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(2));
  std::vector<deed> todo;
  todo.push_back(to("wait", 60'000));
  todo.push_back(to("throw", 0, "no"));
  todo.push_back(to("echo"));
  const auto text = co_await text_of(pool.map(todo));
  CHECK(text == "job cohort::test::deed_job: no: the job has thrown");
  const bool stopped = co_await eventually([&] { return pool.stats().running == 0; });
  CHECK(stopped);
  co_await pool.close();
}

ASYNC_TEST("as_completed gives each job when it ends, with its place, and failures as values") {
  const scratch files;
  process_pool<deed_job> pool(co_await asio::this_coro::executor, pool_of(3));
  std::vector<deed> todo;
  todo.push_back(to("until", 0, files / "go on"));
  todo.push_back(to("throw", 0, "no"));
  todo.push_back(to("wait", 1));
  auto jobs = pool.as_completed(todo);
  CHECK(pool.stats().processes == 0);
  std::vector<std::size_t> order;
  while (auto done = co_await jobs.next()) {
    order.push_back(done->index());
    if (order.size() == 2) std::ofstream(files / "go on");
    CHECK((done->failure() != nullptr) == (done->index() == 1));
    if (done->index() == 1) {
      CHECK_THROWS_AS(done->get(), job_failed);
    } else {
      CHECK(done->get() == "done");
    }
  }
  CHECK(order.size() == 3);
  CHECK(order.back() == 0);
  const auto more = co_await jobs.next();
  CHECK_FALSE(more);
  co_await pool.close();
}

ASYNC_TEST("as_completed takes no more from its range than can run and wait") {
  auto options = pool_of(1);
  options.queue = 2;
  process_pool<prime_job> pool(co_await asio::this_coro::executor, options);
  std::uint64_t taken = 0;
  const auto note = [&taken](std::uint64_t n) {
    taken = std::max(taken, n);
    return n;
  };
  auto jobs = pool.as_completed(std::views::iota(std::uint64_t(1)) | std::views::transform(note));  // without end
  for (std::uint64_t i = 1; i <= 20; ++i) {
    const auto done = co_await jobs.next();
    CHECK(done->index() == i - 1);
    CHECK(taken <= i + 2);
    CHECK(pool.stats().waiting <= 2);
  }
  CHECK(taken == 22);
}

ASYNC_TEST("destroying as_completed kills what runs for it, and nothing else") {
  const scratch files;
  const auto executor = co_await asio::this_coro::executor;
  process_pool<deed_job> pool(executor, pool_of(3));
  auto other = start(pool, to("until", 0, files / "go on"));
  {
    std::vector<deed> todo;
    todo.push_back(to("echo"));
    todo.push_back(to("wait", 60'000));
    todo.push_back(to("wait", 60'000));
    auto jobs = pool.as_completed(todo);
    const auto done = co_await jobs.next();
    CHECK(done->index() == 0);
    CHECK(pool.stats().running == 3);
  }
  std::ofstream(files / "go on");
  const auto seen = co_await other.wait();
  CHECK(seen.value == "done");
  const bool stopped = co_await eventually([&] { return pool.stats().running == 0 && pool.stats().processes == 1; });
  CHECK(stopped);
  co_await pool.close();
}

ASYNC_TEST("as_completed outlives its pool, and its jobs have then failed") {
  const auto executor = co_await asio::this_coro::executor;
  std::optional<process_pool<deed_job>> pool(std::in_place, executor, pool_of(1));
  std::vector<deed> todo;
  todo.push_back(to("echo"));
  todo.push_back(to("wait", 60'000));
  todo.push_back(to("echo"));
  auto jobs = pool->as_completed(todo);
  auto done = co_await jobs.next();
  CHECK(done->failure() == nullptr);
  pool.reset();
  for (int i = 0; i < 2; ++i) {
    done = co_await jobs.next();
    REQUIRE(done);
    CHECK_THROWS_WITH(done->get(), "process_pool: run: already closed on this side");
  }
  done = co_await jobs.next();
  CHECK_FALSE(done);
}

ASYNC_TEST("a range that throws throws from next, and what runs goes on") {
  process_pool<prime_job> pool(co_await asio::this_coro::executor, pool_of(1));
  const auto throwing = [](std::uint64_t n) {
    if (n == 2) throw std::runtime_error("no more numbers");
    return n;
  };
  auto jobs = pool.as_completed(std::views::iota(std::uint64_t(0), std::uint64_t(5)) | std::views::transform(throwing));
  const auto text = co_await text_of(jobs.next());
  CHECK(text == "no more numbers");
  CHECK(pool.stats().running == 1);
  CHECK(pool.stats().waiting == 1);
  for (std::size_t i = 0; i < 2; ++i) {
    const auto done = co_await jobs.next();
    REQUIRE(done);
    CHECK(done->index() == i);
  }
  const auto more = co_await jobs.next();
  CHECK_FALSE(more);
  co_await pool.close();
}

PLAIN_TEST("a wait for the next ended job can be cancelled at every suspension point and loses none") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    process_pool<prime_job> pool(co_await asio::this_coro::executor, pool_of(1));
    std::set<std::size_t> seen;
    auto jobs = pool.as_completed(std::views::iota(0u, 3u));
    auto done = co_await cancelled(jobs.next());
    if (done) seen.insert((*done)->index());
    while (auto more = co_await jobs.next()) seen.insert(more->index());
    CHECK(seen == std::set<std::size_t>{0, 1, 2});
    CHECK(pool.stats().started == 1);
    co_await pool.close();
  });
  CHECK(points > 0);
}

PLAIN_TEST("a map can be cancelled at every suspension point, and the pool goes on") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    process_pool<prime_job> pool(co_await asio::this_coro::executor, pool_of(2));
    const std::vector<bool> expected{false, false, true};
    const auto primes = co_await cancelled(pool.map(std::views::iota(0u, 3u)));
    if (primes) CHECK(*primes == expected);
    const auto again = co_await pool.map(std::views::iota(0u, 3u));
    CHECK(again == expected);
    co_await pool.close();
  });
  CHECK(points > 0);
}

}  // namespace cohort::test::completions_test
