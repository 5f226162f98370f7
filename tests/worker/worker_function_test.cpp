// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/worker/worker_function.hpp"

#include <functional>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "../../include/cohort/ipc/channel_pair.hpp"
#include "../../include/cohort/worker/options.hpp"
#include "../../include/cohort/worker/parent_channel.hpp"
#include "../../include/cohort/worker/worker.hpp"
#include "../support/harness.hpp"

namespace cohort::test::worker_function_test {
namespace {

asio::awaitable<void> no_connections(asio::ip::tcp::socket, worker&) { co_return; }

worker* seen = nullptr;
asio::awaitable<void> see(worker& self) {
  seen = &self;
  co_return;
}

/// A worker that is only there to be passed on.
struct scene {
  explicit scene(const asio::any_io_executor& executor)
      : ends(make_channel_pair()), self(executor, {executor, std::move(ends.second)}, &no_connections, {}) {}
  std::pair<descriptor, descriptor> ends;
  worker self;
};

ASYNC_TEST("a step of a worker is a coroutine or a plain function, with the worker or without") {
  scene here(co_await asio::this_coro::executor);
  int plain = 0, bare = 0, waited = 0;
  const worker_function steps[] = {
      &see,
      [&](worker& self) { plain += &self == &here.self ? 1 : 0; },
      [&] { ++bare; },
      [&]() -> asio::awaitable<void> {
        ++waited;
        co_return;
      },
  };
  for (const auto& step : steps) co_await step(here.self);
  CHECK(seen == &here.self);
  CHECK(plain == 1);
  CHECK(bare == 1);
  CHECK(waited == 1);
}

ASYNC_TEST("a plain function keeps its state from one call to the next, and throws where the worker waits") {
  scene here(co_await asio::this_coro::executor);
  const worker_function step = [calls = 0]() mutable {
    if (++calls == 2) throw std::runtime_error("the second call");
  };
  co_await step(here.self);
  auto second = step(here.self);  // which does not throw before somebody waits
  const auto text = co_await text_of(std::move(second));
  CHECK(text == "the second call");
}

TEST_CASE("no function is an empty step, in each way to say it") {
  using pointer = asio::awaitable<void> (*)(worker&);
  CHECK_FALSE(static_cast<bool>(worker_function()));
  CHECK_FALSE(static_cast<bool>(worker_function(nullptr)));
  CHECK_FALSE(static_cast<bool>(worker_function(pointer())));
  CHECK_FALSE(static_cast<bool>(worker_function(std::function<void()>())));
  CHECK(static_cast<bool>(worker_function([] {})));
  CHECK(static_cast<bool>(worker_function(std::function<void()>([] {}))));
}

TEST_CASE("what is no step of a worker is no worker_function") {
  CHECK_FALSE(std::is_constructible_v<worker_function, int (*)()>);
  CHECK_FALSE(std::is_constructible_v<worker_function, void (*)(int)>);
  CHECK_FALSE(std::is_constructible_v<worker_function, asio::awaitable<int> (*)(worker&)>);
  const auto owner = [owned = std::unique_ptr<int>()] {};
  CHECK_FALSE(std::is_constructible_v<worker_function, decltype(owner)>);
}

}  // namespace
}  // namespace cohort::test::worker_function_test
