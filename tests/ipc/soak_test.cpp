// SPDX-License-Identifier: BSL-1.0
// Two processes that do everything to each other at once, one of which is killed again and again.
#include "soak.hpp"
#include "over_transport.hpp"

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>

#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include "../../include/cohort/ipc/peer.hpp"
#include "../process/children.hpp"
#include "../support/harness.hpp"

namespace cohort::test::soak_test {
namespace {

struct tally {
  unsigned rounds = 0;
  unsigned killed = 0;
  std::uint64_t messages = 0;
  std::uint64_t handles = 0;
};

asio::awaitable<void> stop_later(soak::side& mine, peer<soak::protocol>& child, bool kills,
                                 std::chrono::milliseconds time) {
  co_await sleep(time);
  if (kills) {
    child.signal(SIGKILL);
  } else {
    mine.stop();
  }
}

asio::awaitable<void> one_round(unsigned seed, tally& all) {
  std::mt19937 chance(seed);
  auto child = co_await spawn<soak::protocol>(helper("soak", std::to_string(seed + 1)), over_transport());
  soak::side mine(child, seed);
  const bool kills = chance() % 2 == 0;
  task_group stopping(child.get_executor());
  stopping.start(stop_later(mine, child, kills, std::chrono::milliseconds(50 + chance() % 700)),
                 [](std::exception_ptr) {});
  std::string failure;
  try {
    co_await mine.run();
  } catch (const std::exception& error) {
    failure = error.what();
  }
  CHECK(failure == "");
  co_await stopping.wait_empty();
  const auto status = co_await child.wait();
  CHECK(status == (kills ? exit_status::killed(SIGKILL) : exit_status::exited(0)));
  ++all.rounds;
  all.killed += kills;
  all.messages += mine.messages();
  all.handles += mine.handles();
}

/// What this process has in memory, in bytes (proc(5)).
std::uint64_t resident() {
  ::malloc_trim(0);
  std::uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages >> pages;
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

// For as many seconds as COHORT_SOAK_SECONDS says, else for a few. The harness looks after each round for descriptors
// and processes that were left.
TEST_CASE("two processes that do everything at once lose nothing, whoever is killed") {
  using clock = std::chrono::steady_clock;
  const char* const given = std::getenv("COHORT_SOAK_SECONDS");
  const auto end = clock::now() + std::chrono::seconds(given != nullptr ? std::stoul(given) : 3);
  constexpr unsigned warm = 8;
  std::uint64_t before = 0;
  tally all;
  for (unsigned seed = 1; clock::now() < end; seed += 2) {
    INFO("seed ", seed);
    run_isolated([&] { return one_round(seed, all); });
    if (all.rounds == warm) before = resident();
  }
  MESSAGE(all.rounds, " rounds, ", all.killed, " of them killed, ", all.messages, " messages, ", all.handles,
          " handles");
  CHECK(all.messages > 0);
  CHECK(all.handles > 0);
  if (!sanitized && all.rounds > warm) CHECK(resident() < before + 16 * 1024 * 1024);
}

}  // namespace
}  // namespace cohort::test::soak_test
