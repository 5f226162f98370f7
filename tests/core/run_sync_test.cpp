// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/core/run_sync.hpp"

#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>

#include "../../include/cohort/core/error.hpp"
#include "../../include/cohort/core/timeout.hpp"
#include "../support/harness.hpp"

namespace cohort::test::run_sync_test {
namespace {

asio::awaitable<std::string> later(std::string text) {
  co_await sleep(1ms);
  co_return text;
}

PLAIN_TEST("an operation runs to its end without a loop of the caller's") {
  CHECK(run_sync(later("done")) == "done");
  run_sync(sleep(1ms));
}

PLAIN_TEST("what an operation throws comes out") {
  const auto fail = []() -> asio::awaitable<int> {
    co_await yield();
    throw std::runtime_error("no luck");
  };
  CHECK_THROWS_WITH_AS(run_sync(fail()), "no luck", std::runtime_error);

  const auto fail_late = []() -> asio::awaitable<void> {
    co_await sleep(1ms);
    throw_error("late", errc::closed);
  };
  CHECK_THROWS_AS(run_sync(fail_late()), std::system_error);
}

PLAIN_TEST("a result needs neither a copy nor a default") {
  struct result {
    explicit result(int given) : value(std::make_unique<int>(given)) {}
    std::unique_ptr<int> value;
  };
  const auto make = []() -> asio::awaitable<result> {
    co_await yield();
    co_return result(3);
  };
  CHECK(*run_sync(make()).value == 3);
}

PLAIN_TEST("what runs on when the operation has ended is destroyed") {
  const auto alive = std::make_shared<int>(0);
  const auto linger = [](std::shared_ptr<int> held) -> asio::awaitable<void> {
    co_await sleep(1h);
    ++*held;
  };
  const auto start = [&]() -> asio::awaitable<void> {
    asio::co_spawn(co_await asio::this_coro::executor, linger(alive), asio::detached);
    co_await yield();
  };
  run_sync(start());
  CHECK(alive.use_count() == 1);
  CHECK(*alive == 0);
}

PLAIN_TEST("a time limit goes around the operation") {
  std::error_code code;
  try {
    run_sync(with_timeout(sleep(1h), 1ms));
  } catch (const std::system_error& error) {
    code = error.code();
  }
  CHECK(code == errc::timed_out);
}

}  // namespace
}  // namespace cohort::test::run_sync_test
