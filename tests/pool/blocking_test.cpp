// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/pool/blocking.hpp"

#include <string>
#include <system_error>
#include <type_traits>

#include "../support/cancellation.hpp"
#include "../support/harness.hpp"
#include "pools.hpp"

namespace cohort::test::blocking_test {
namespace {

template <class Pool, class... Arguments>
concept can_ask_for_primes = requires(Pool& in, Arguments... arguments) { pool::blocking<&is_prime>(in, arguments...); };

}  // namespace

ASYNC_TEST("one pool calls several functions, each with its own types") {
  process_pool<several_job> all(co_await asio::this_coro::executor, pool_of(1));
  const bool prime = co_await pool::blocking<&is_prime>(all, 4294967291u);
  CHECK(prime);
  const auto joined = co_await pool::blocking<&join>(all, "left, ", "right");
  CHECK(joined == "left, right");
  const int answer = co_await pool::blocking<&forty_two>(all);
  CHECK(answer == 42);
  co_await pool::blocking<&do_nothing>(all, 1);
  const std::string text(100, 'x');
  const auto same = co_await pool::blocking<&later>(all, text, 5u);
  CHECK(same == text);
  CHECK(all.stats().started == 1);
  co_await all.close();
}

PLAIN_TEST("a pool calls only the functions that it names, with the arguments that they take") {
  static_assert(can_ask_for_primes<process_pool<several_job>, int>);
  static_assert(!can_ask_for_primes<process_pool<several_job>, std::string>);
  static_assert(!can_ask_for_primes<process_pool<several_job>>);
  static_assert(!can_ask_for_primes<process_pool<function_jobs<&join>>, int>);
  static_assert(std::is_same_v<decltype(pool::blocking<&do_nothing>(std::declval<process_pool<several_job>&>(), 1)),
                               asio::awaitable<void>>);
}

ASYNC_TEST("what a function throws, and the end of its process, are errors of its call alone") {
  process_pool<several_job> all(co_await asio::this_coro::executor, pool_of(1));
  const auto text = co_await text_of(pool::blocking<&fail>(all, "no such page"));
  CHECK(text.find("no such page: the job has thrown") != text.npos);
  CHECK(all.stats().started == 1);
  const auto error = co_await error_of(pool::blocking<&fail>(all, "crash"));
  CHECK(error == errc::job_crashed);
  const bool prime = co_await pool::blocking<&is_prime>(all, 7);
  CHECK(prime);
  CHECK(all.stats().started == 2);
  co_await all.close();
}

PLAIN_TEST("a call can be cancelled at every suspension point, and the pool goes on") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    process_pool<several_job> all(co_await asio::this_coro::executor, pool_of(1));
    const auto joined = co_await cancelled(pool::blocking<&join>(all, "a", "b"));
    if (joined) CHECK(*joined == "ab");
    const bool prime = co_await pool::blocking<&is_prime>(all, 7);
    CHECK(prime);
    CHECK(all.stats().started == (joined ? 1 : 2));
    co_await all.close();
  });
  CHECK(points > 0);
}

}  // namespace cohort::test::blocking_test
