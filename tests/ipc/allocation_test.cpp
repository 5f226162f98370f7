// SPDX-License-Identifier: BSL-1.0
// What a channel in use asks of the allocator: nothing. With a sanitizer, whose allocator this is then, there is
// nothing to test.
#include "channels.hpp"

#if !COHORT_TEST_SANITIZED

#include <cstddef>
#include <exception>
#include <new>
#include <string>

#include "../../include/cohort/core/scope.hpp"

namespace {

std::size_t allocations = 0;
std::size_t largest_allowed = ~std::size_t{0};

}  // namespace

// glibc's allocator under the names that it has for who replaces it ("Replacing malloc", libc manual). Operator new and
// byte_buffer come here, too.
extern "C" {

void* __libc_malloc(std::size_t size) noexcept;
void* __libc_realloc(void* old, std::size_t size) noexcept;

void* malloc(std::size_t size) noexcept {
  ++allocations;
  if (size > largest_allowed) return nullptr;
  return __libc_malloc(size);
}

void* realloc(void* old, std::size_t size) noexcept {
  ++allocations;
  if (size > largest_allowed) return nullptr;
  return __libc_realloc(old, size);
}
}

namespace cohort::test::allocation_test {
namespace {

struct sample {
  std::uint64_t values[8] = {};
};

using sampling = connected<sample, sample>;

constexpr int rounds = 2000;

/// Awaits `work(i)` for `rounds` rounds to get warm, and says how many allocations as many more make.
template <class Work>
asio::awaitable<std::size_t> allocations_of(Work work) {
  for (int i = 0; i < rounds; ++i) co_await work(i);
  const std::size_t before = allocations;
  for (int i = 0; i < rounds; ++i) co_await work(i);
  co_return allocations - before;
}

ASYNC_TEST("a send and the receive of it allocate nothing") {
  sampling both(co_await asio::this_coro::executor);
  auto round = [&](int) -> asio::awaitable<void> {
    const sample what;
    co_await both.here.send(what);
    const auto got = co_await both.there.receive();
    REQUIRE(got.has_value());
  };
  const auto made = co_await allocations_of(round);
  CHECK(made == 0);
}

ASYNC_TEST("a post and the receive that waits for it allocate nothing") {
  sampling both(co_await asio::this_coro::executor);
  auto round = [&](int) -> asio::awaitable<void> {
    const sample what;
    const bool queued = both.here.post(what);
    REQUIRE(queued);
    const auto got = co_await both.there.receive();
    REQUIRE(got.has_value());
  };
  const auto made = co_await allocations_of(round);
  CHECK(made == 0);
}

ASYNC_TEST("a batch that is posted and received allocates nothing") {
  sampling both(co_await asio::this_coro::executor);
  auto round = [&](int) -> asio::awaitable<void> {
    const sample what;
    for (int i = 0; i < 100; ++i) both.here.post(what);
    for (int i = 0; i < 100; ++i) {
      const auto got = co_await both.there.receive();
      REQUIRE(got.has_value());
    }
  };
  const auto made = co_await allocations_of(round);
  CHECK(made == 0);
}

ASYNC_TEST("messages there and back between two coroutines allocate nothing") {
  const auto executor = co_await asio::this_coro::executor;
  sampling both(executor);
  auto echo = [](channel<sample, sample>& there) -> asio::awaitable<void> {
    while (auto got = co_await there.receive()) co_await there.send(*got);
  };
  outcome_of<void> echoing(executor, echo(both.there));
  auto round = [&](int) -> asio::awaitable<void> {
    const sample what;
    co_await both.here.send(what);
    const auto got = co_await both.here.receive();
    REQUIRE(got.has_value());
  };
  const auto made = co_await allocations_of(round);
  CHECK(made == 0);
  co_await both.here.disconnect();
  co_await echoing.get();
}

/// What an operation throws: "bad_alloc", or else its text.
template <class T>
asio::awaitable<std::string> failure_of(asio::awaitable<T> operation) {
  try {
    co_await std::move(operation);
  } catch (const std::bad_alloc&) {
    co_return "bad_alloc";
  } catch (const std::exception& error) {
    co_return error.what();
  }
  co_return "";
}

ASYNC_TEST("a message that does not fit into memory ends the channel that it came by, and no other") {
  const auto executor = co_await asio::this_coro::executor;
  for (const std::size_t allowed : {std::size_t{100'000}, std::size_t{600'000}}) {  // a buffer; the message
    talking bad(executor), good(executor);
    co_await good.here.send<number>(1u);
    auto heard = co_await next(good.there);
    CHECK(heard == "1");
    const text large = text_of_size(5'000'000);
    outcome_of<void> sending(executor, bad.here.send(large));
    co_await yield(3);
    std::string failure;
    {
      largest_allowed = allowed;
      const detail::on_exit restores([] { largest_allowed = ~std::size_t{0}; });
      failure = co_await failure_of(bad.there.receive());
    }
    CHECK(failure == "bad_alloc");
    CHECK_FALSE(bad.there.is_open());
    failure = co_await failure_of(bad.there.receive_handle());
    CHECK(failure == "bad_alloc");
    const auto code = co_await error_of(sending.get());
    CHECK(code == errc::peer_closed);
    co_await good.here.send<number>(2u);
    heard = co_await next(good.there);
    CHECK(heard == "2");
  }
}

}  // namespace
}  // namespace cohort::test::allocation_test

#endif
