// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/core/task_group.hpp"

#include <exception>
#include <functional>
#include <vector>

#include "../../include/cohort/core/error.hpp"
#include "../support/cancellation.hpp"
#include "../support/harness.hpp"

namespace cohort::test::task_group_test {
namespace {

asio::awaitable<void> wait_forever() {
  event never(co_await asio::this_coro::executor);
  co_await never.wait();
}

void ignore(std::exception_ptr) {}

std::error_code code_of(std::exception_ptr failure) {
  try {
    if (failure) std::rethrow_exception(failure);
  } catch (const std::system_error& error) {
    return error.code();
  }
  return {};
}

}  // namespace

ASYNC_TEST("a group knows how many of its coroutines run, and is empty when all have ended") {
  task_group group(co_await asio::this_coro::executor);
  CHECK(group.size() == 0);
  co_await group.wait_empty();
  group.start(yield(2), ignore);
  group.start(yield(5), ignore);
  CHECK(group.size() == 2);
  co_await group.wait_empty();
  CHECK(group.size() == 0);
}

ASYNC_TEST("a coroutine of a group begins inside start, and its end is told in a later turn") {
  task_group group(co_await asio::this_coro::executor);
  bool begun = false, ended = false;
  auto work = [&]() -> asio::awaitable<void> {
    begun = true;
    co_return;
  };
  group.start(work(), [&](std::exception_ptr) { ended = true; });
  CHECK(begun);
  CHECK_FALSE(ended);
  CHECK(group.size() == 1);
  co_await group.wait_empty();
  CHECK(ended);
}

ASYNC_TEST("the end of a coroutine is told once, with what it has thrown") {
  task_group group(co_await asio::this_coro::executor);
  std::vector<std::exception_ptr> ends;
  const auto note = [&](std::exception_ptr failure) { ends.push_back(failure); };
  auto failing = []() -> asio::awaitable<void> {
    co_await yield();
    throw_error("work", errc::malformed);
  };
  group.start(yield(), note);
  co_await group.wait_empty();
  group.start(failing(), note);
  co_await group.wait_empty();
  REQUIRE(ends.size() == 2);
  CHECK(ends[0] == nullptr);
  CHECK(code_of(ends[1]) == errc::malformed);
}

ASYNC_TEST("cancelling a group ends what runs with operation_aborted, and the group goes on") {
  task_group group(co_await asio::this_coro::executor);
  std::vector<std::error_code> ends;
  const auto note = [&](std::exception_ptr failure) { ends.push_back(code_of(failure)); };
  for (int i = 0; i < 3; ++i) group.start(wait_forever(), note);
  co_await yield(3);
  group.cancel();
  co_await group.wait_empty();
  CHECK(ends == std::vector<std::error_code>(3, operation_aborted()));
  group.start(yield(), note);
  co_await group.wait_empty();
  CHECK(ends.back() == std::error_code());
}

ASYNC_TEST("a group that is cancelled before its coroutines have begun is empty soon") {
  task_group group(co_await asio::this_coro::executor);
  group.start(wait_forever(), ignore);
  group.cancel();
  co_await group.wait_empty();
  CHECK(group.size() == 0);
}

ASYNC_TEST("the end of one coroutine may start the next, and the group is not empty in between") {
  task_group group(co_await asio::this_coro::executor);
  int left = 5;
  std::function<void(std::exception_ptr)> again = [&](std::exception_ptr) {
    if (--left > 0) group.start(yield(), again);
  };
  group.start(yield(), again);
  co_await group.wait_empty();
  CHECK(left == 0);
  CHECK(group.size() == 0);
}

ASYNC_TEST("a coroutine may start another in its own group") {
  task_group group(co_await asio::this_coro::executor);
  int ended = 0;
  const auto count = [&](std::exception_ptr) { ++ended; };
  auto parent = [&]() -> asio::awaitable<void> {
    co_await yield();
    group.start(yield(5), count);
  };
  group.start(parent(), count);
  co_await group.wait_empty();
  CHECK(ended == 2);
}

ASYNC_TEST("a group that is filled again before its owner has seen it empty is not reported empty") {
  task_group group(co_await asio::this_coro::executor);
  auto work = [&]() -> asio::awaitable<void> {
    // in a turn after the end of this coroutine, and before the one in which the owner continues
    asio::post(group.get_executor(), [&] { group.start(yield(5), ignore); });
    co_return;
  };
  group.start(work(), ignore);
  co_await group.wait_empty();
  CHECK(group.size() == 0);
  const bool again = co_await eventually([&] { return group.size() == 0; });
  CHECK(again);
}

PLAIN_TEST("waiting for an empty group can be cancelled at every suspension point, and changes nothing") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    task_group group(co_await asio::this_coro::executor);
    int ended = 0;
    const auto count = [&](std::exception_ptr failure) { ended += failure == nullptr; };
    group.start(yield(2), count);
    group.start(yield(4), count);
    const bool completed = co_await cancelled(group.wait_empty());
    if (!completed) co_await group.wait_empty();
    CHECK(ended == 2);
  });
  CHECK(points > 2);
}

}  // namespace cohort::test::task_group_test
