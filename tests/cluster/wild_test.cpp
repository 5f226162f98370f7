// SPDX-License-Identifier: BSL-1.0
// A worker in slot 1 that says well-formed things in a wild order (tests/verbs/wild.cpp), one seed after the other, and
// what the primary must do all the same: serve by the other worker, reload, stop, and keep its memory, its descriptors
// and its time. COHORT_TEST_WILD=SECONDS is for how long; COHORT_TEST_FIRST_SEED is the first one.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "figures.hpp"
#include "running.hpp"

namespace cohort::test::wild_test {
namespace {

using clock = std::chrono::steady_clock;

std::size_t number_of(const char* variable, std::size_t otherwise) {
  const char* const value = std::getenv(variable);
  return value != nullptr ? std::strtoul(value, nullptr, 10) : otherwise;
}

asio::awaitable<void> look(running& c, figures& most) {
  const auto begin = clock::now();
  const auto answer = co_await ask_once(c.at(), "echo on");
  CHECK(answer == "on");
  most.add(clock::now() - begin);
}

/// What all rounds have in common.
struct course {
  std::size_t seed = number_of("COHORT_TEST_FIRST_SEED", 1);
  bool is_calm = false;  // whoever starts from then on is honest
  figures before, most;
};

/// A cluster for some seconds.
asio::awaitable<void> go_on(course& all, clock::time_point end) {
  auto options = options_for(distribution::custom, 2);
  options.program = helper("wild");
  options.picker = [](const any_handle&, std::span<const candidate> among) {
    std::size_t chosen = 0;
    while (chosen + 1 < among.size() && among[chosen].slot != 2) ++chosen;
    return chosen;
  };
  options.on_start = [&all](unsigned slot, command& program) {
    if (slot == 1 && !all.is_calm) program.env("COHORT_TEST_SEED", std::to_string(all.seed++));
  };
  options.restart.max_restarts = options.restart.max_failed_boots = 1'000'000;
  options.restart.min_backoff = options.restart.max_backoff = 1ms;
  options.limits.max_bytes = 2 << 20;
  auto c = running::start(co_await asio::this_coro::executor, std::move(options));
  const bool served = co_await eventually([&] {
    return std::any_of(c->events.begin(), c->events.end(),
                       [](const auto& each) { return each.what == event_kind::ready && each.slot == 2; });
  });
  REQUIRE(served);
  if (all.before.memory == 0) co_await look(*c, all.before);
  while (clock::now() < end) {
    co_await look(*c, all.most);
    co_await sleep(2ms);
    if (c->events.size() > 4000) c->events.erase(c->events.begin() + 8, c->events.end() - 1000);
  }
  all.is_calm = true;
  const auto result = co_await c->primary.reload();
  CHECK(result.success());
  co_await look(*c, all.most);
  all.is_calm = false;
  c->primary.stop("the test ends");
  co_await c->ended();
}

TEST_CASE("a worker that says everything in a wild order costs itself alone") {
  course all;
  const auto first_seed = all.seed;
  const auto end = clock::now() + std::chrono::seconds(number_of("COHORT_TEST_WILD", 2));
  do {
    const auto until = std::min(end, clock::now() + 10s);
    run_isolated([&] { return go_on(all, until); });
  } while (clock::now() < end);
  const auto seeds = all.seed - first_seed;
  const std::string text =
      std::to_string(seeds) + " seeds; before: " + all.before.text() + "; at most: " + all.most.text();
  MESSAGE(text);
  CHECK(seeds > 5);
  CHECK(all.most.memory < all.before.memory + 64);
  CHECK(all.most.descriptors < all.before.descriptors + 100);
}

}  // namespace
}  // namespace cohort::test::wild_test
