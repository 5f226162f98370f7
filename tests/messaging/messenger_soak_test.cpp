// SPDX-License-Identifier: BSL-1.0
// Messages of every kind among four workers, an agent and the primary, while workers and the agent are killed. Longer:
// COHORT_SOAK_MESSAGES=100000.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <signal.h>
#include <unistd.h>

#include "../../include/cohort/core/run_sync.hpp"
#include "tally.hpp"
#include "townhall.hpp"

namespace cohort::test::messenger_soak_test {
namespace {

constexpr unsigned workers = 4;
constexpr unsigned drivers = 2;  // for each process
constexpr std::uint32_t at_a_time = 25;

std::uint64_t wanted() {
  const char* const text = std::getenv("COHORT_SOAK_MESSAGES");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : sanitized ? 2'000 : 8'000;
}

std::uint64_t resident_kilobytes() {
  std::uint64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) / 1024;
}

/// Has one process send by every kind of address, again and again.
asio::awaitable<void> drive(townhall& t, recipient who, const bool& over) {
  const std::vector<std::string> places{"everyone", "workers", "random", "primary", "slot 1", "slot 4", "agent cache"};
  town::order what;
  what.count = at_a_time;
  for (std::size_t i = 0; !over; ++i) {
    what.to = places[i % places.size()];
    what.directly = i / places.size() % 2 == 1;
    const auto became = co_await t.talk.send_to(who, what);
    if (!became.complete()) co_await sleep(5ms);  // it has died
  }
}

asio::awaitable<std::uint64_t> kill_now_and_then(townhall& t, const bool& over) {
  std::uint64_t killed = 0;
  for (unsigned i = 0; !over; ++i) {
    co_await sleep(150ms);
    pid_t victim = 0;
    if (i % 5 == 4) {
      victim = t.agent_pid("cache");
    } else {
      for (const auto& each : t.c->primary.stats().workers) {
        if (each.slot == i % workers + 1 && each.state == worker_state::ready) victim = each.pid;
      }
    }
    // It may be another's number by now only if it was reaped, which an event says before.
    if (victim == 0 || t.c->place(event_kind::exited, victim) < t.c->events.size()) continue;
    ::kill(victim, SIGKILL);
    ++killed;
  }
  co_return killed;
}

asio::awaitable<void> soak() {
  if (std::getenv("COHORT_SOAK_MESSAGES") != nullptr) ::alarm(0);  // who wants a long one watches it
  const tally counts(std::filesystem::temp_directory_path() / ("cohort-tally-" + std::to_string(::getpid())));
  const std::string argument = "tally=" + counts.path();
  auto options = townhall::options(workers, argument);
  options.agents.push_back(townhall::agent("cache", argument));
  restart_policy policy;
  policy.max_restarts = 1'000'000;
  options.restart = policy;
  auto t = co_await townhall::open(options);
  t->talk.on<town::news>([&](const town::news&) { ++counts->heard; });

  const auto executor = co_await asio::this_coro::executor;
  bool over = false;
  std::size_t running = 0;
  std::uint64_t killed = 0;
  const auto begin = [&](asio::awaitable<void> work) {
    ++running;
    asio::co_spawn(executor, std::move(work), [&running](std::exception_ptr) { --running; });
  };
  for (unsigned i = 0; i < drivers; ++i) {
    for (unsigned slot = 1; slot <= workers; ++slot) begin(drive(*t, recipient::slot(slot), over));
    begin(drive(*t, recipient::agent("cache"), over));
  }
  ++running;
  asio::co_spawn(executor, kill_now_and_then(*t, over), [&](std::exception_ptr, std::uint64_t count) {
    killed = count;
    --running;
  });

  const auto total = wanted();
  std::uint64_t early = 0;
  for (std::uint64_t last = 0, at_rest = 0; counts->told < total;) {
    co_await sleep(20ms);
    if (early == 0 && counts->told > total / 4) early = resident_kilobytes();
    at_rest = counts->told == last ? at_rest + 1 : 0;
    last = counts->told;
    REQUIRE_MESSAGE(at_rest < 1'000, "the messages stop");
  }
  const auto late = resident_kilobytes();
  over = true;
  const bool ended = co_await eventually([&] { return running == 0; });
  REQUIRE(ended);
  const int status = co_await t->c->stop();
  CHECK(status == 0);

  MESSAGE(counts->told.load(), " messages, ", counts->heard.load(), " heard, ", counts->not_delivered.load(),
          " said not to be, ", killed, " processes killed; ", early, " KiB, then ", late, " KiB");
  CHECK(killed > 0);
  // Only who is killed does not hear what has become of what it was sending.
  const auto unknown = counts->begun - counts->told;
  CHECK(unknown <= killed * drivers);
  CHECK(counts->heard >= counts->delivered);
  CHECK(counts->heard <= counts->delivered + counts->not_delivered + unknown * (workers + 1));
  // ASan keeps up to 256 MiB of what was freed (quarantine_size_mb), so that its use is seen.
  CHECK(late < early + (sanitized ? 256 : 8) * 1024);
  std::filesystem::remove(counts.path());
}

}  // namespace

// Not in the harness's time, which the long one would overrun.
PLAIN_TEST("every message is delivered, or said not to be, whoever is killed") { run_sync(soak()); }

}  // namespace cohort::test::messenger_soak_test
