// SPDX-License-Identifier: BSL-1.0
// A worker that is not honest, in slot 1 (tests/verbs/hostile.cpp): what it does must cost itself alone.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include <signal.h>

#include "../../include/cohort/messaging/messenger.hpp"
#include "../../include/cohort/worker/counter.hpp"
#include "../verbs/hostile.hpp"
#include "figures.hpp"
#include "running.hpp"

namespace cohort::test::hostile_test {
namespace {

using hostile::note;

/// An attack by the worker in slot 1, and what it costs the primary, which is this process.
class siege {
 public:
  explicit siege(std::string attack) : attack_(std::move(attack)) { before_.add({}); }

  /// Connections go to the honest worker in slot 2.
  cluster_options options(unsigned workers) const {
    auto result = options_for(distribution::custom, workers);
    result.program = helper("hostile", attack_);
    result.picker = [](const any_handle&, std::span<const candidate> among) {
      std::size_t chosen = 0;
      while (chosen + 1 < among.size() && among[chosen].slot != 2) ++chosen;
      return chosen;
    };
    return result;
  }

  /// The honest worker answers, again and again.
  asio::awaitable<void> check_service(running& c) {
    for (int i = 0; i < 10; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      const auto answer = co_await ask_once(c.at(), "pid");
      CHECK(answer == std::to_string(c.pid(2)) + " 2");
      most_.add(std::chrono::steady_clock::now() - begin);
    }
  }

  /// Looks once more, and kills all, for those that do not listen.
  asio::awaitable<void> end(running& c) {
    most_.add({});
    const std::string text = attack_ + ": before: " + before_.text() + "; at most: " + most_.text();
    MESSAGE(text);
    if (!sanitized) CHECK(most_.memory < before_.memory + 32);
    // What each process has of the primary, what the test has of its clients, and what max_leases lets wait.
    CHECK(most_.descriptors < before_.descriptors + 64 + 64);
    c.primary.kill("the test ends");
    const int status = co_await c.ended();
    CHECK(status == 1);
  }

 private:
  std::string attack_;
  figures before_, most_;
};

ASYNC_TEST("a worker cannot speak as another one, and not as the primary") {
  siege attack("forge");
  std::optional<messenger<note>> notes;
  member from;
  const auto listen = [&](cluster& primary) {
    notes.emplace(primary).on<note>([&](const note&, const member& who) { from = who; });
  };
  auto c = running::start(co_await asio::this_coro::executor, attack.options(2), listen);
  co_await c->until(event_kind::failed);
  co_await c->until(event_kind::ready, 2);
  CHECK(from.slot == 1);
  CHECK(from.pid == c->pid(1));
  CHECK(c->last(event_kind::failed).text.find("only the primary says this") != std::string::npos);
  co_await attack.check_service(*c);
  co_await attack.end(*c);
}

ASYNC_TEST("an introduction with something that is no socket ends who has sent it, and not who would get it") {
  siege attack("introduce");
  auto c = co_await running::ready(attack.options(2));
  const pid_t honest = c->pid(2);
  co_await c->until(event_kind::exited);
  CHECK(c->first(event_kind::exited).slot == 1);
  CHECK(c->first(event_kind::failed).text == "it has sent what is no end of a channel");
  co_await attack.check_service(*c);
  CHECK(c->pid(2) == honest);
  co_await attack.end(*c);
}

ASYNC_TEST("introductions that nobody takes have few descriptors of the primary") {
  siege attack("flood");
  auto options = attack.options(3);
  auto c = co_await running::ready(options);
  const auto until = std::chrono::steady_clock::now() + 300ms;
  while (std::chrono::steady_clock::now() < until) {
    co_await attack.check_service(*c);
  }
  CHECK(c->count(event_kind::exited) == 0);
  co_await attack.end(*c);
}

ASYNC_TEST("letters that nobody answers have so many bytes of the primary, and no more") {
  siege attack("letters");
  auto options = attack.options(3);
  options.limits.max_bytes = 2 << 20;
  auto c = co_await running::ready(options);
  const bool refused = co_await eventually([&] { return c->primary.stats().workers.at(0).refused >= 50; });
  CHECK(refused);
  co_await attack.check_service(*c);
  co_await attack.end(*c);
}

ASYNC_TEST("what a worker says of itself fills no log, and is one line") {
  siege attack("log");
  auto c = co_await running::ready(attack.options(2));
  co_await c->until(event_kind::draining);
  const pid_t attacker = c->first(event_kind::draining).pid;  // another may have its slot by now
  const auto of_attacker = [&](event_kind what) {
    return std::count_if(c->events.begin(), c->events.end(),
                         [&](const auto& each) { return each.what == what && each.pid == attacker; });
  };
  CHECK(of_attacker(event_kind::failed) == 20);
  CHECK(of_attacker(event_kind::draining) == 1);
  CHECK(c->first(event_kind::failed).text == "?primary failed: all is lost?[2J");
  co_await attack.check_service(*c);
  co_await attack.end(*c);
}

ASYNC_TEST("a worker cannot have answered more connections than it was given") {
  siege attack("ended");
  auto options = attack.options(1);
  options.distribution = distribution::least_connections;
  options.limits.lease_timeout = 1h;
  auto c = co_await running::ready(options);
  co_await sleep(20ms);  // it lies at once
  auto one = co_await client::connect(c->at());
  const bool counted = co_await eventually([&] { return c->primary.stats().workers.at(0).leased == 1; });
  CHECK(counted);
  co_await attack.end(*c);
}

ASYNC_TEST("what a worker counts has so many names of the primary, and a total only grows") {
  siege attack("counters");
  auto options = attack.options(2);
  options.ping_interval = 10ms;
  auto c = co_await running::ready(options);
  // Names that are none, what is less than before, and what comes after the 64th name.
  const bool refused = co_await eventually([&] { return c->primary.stats().workers.at(0).refused == 4 + 1000 - 63; });
  CHECK(refused);
  const auto counters = c->primary.stats().counters;
  CHECK(counters.size() == counter::most);
  CHECK(counters.at("orders") == 7);
  CHECK_FALSE(counters.contains("a63"));
  for (const auto* name : {"orders", "a0", "other"}) {  // of these the honest one can tell one, and dies of none
    const auto answer = co_await ask_once(c->at(), std::string("count ") + name + " 2");
    CHECK(answer == "count done");
  }
  const bool told = co_await eventually([&] { return c->primary.stats().workers.at(1).refused == 2; });
  CHECK(told);
  CHECK(c->primary.stats().counters.at("orders") == 9);
  CHECK(c->primary.stats().counters.at("a0") == counters.at("a0"));
  co_await attack.end(*c);
}

ASYNC_TEST("a worker that takes no connection, and answers pings, is ended, and others get its connections") {
  siege attack("nothing");
  auto options = attack.options(2);
  options.distribution = distribution::round_robin;
  options.ping_interval = 20ms;
  options.limits.lease_timeout = 200ms;
  auto c = co_await running::ready(options);
  const pid_t idle = c->pid(1);
  for (int i = 0; i < 2; ++i) {  // one to each
    const auto answer = co_await ask_once(c->at(), "echo on");
    CHECK(answer == "on");
  }
  co_await c->until(event_kind::exited);
  CHECK(c->first(event_kind::exited).pid == idle);
  CHECK(c->first(event_kind::failed).text == "it has left a connection untaken for 0.2 s");
  co_await attack.end(*c);
}

ASYNC_TEST("a worker that has stopped keeps the connections of its own clients at most, whatever chooses the worker") {
  auto options = options_for(distribution::by_address, 2);
  auto c = co_await running::ready(options);
  const auto answer = co_await ask_once(c->at(), "pid");
  const pid_t chosen = static_cast<pid_t>(std::stol(answer));
  ::kill(chosen, SIGSTOP);
  std::vector<client> clients;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(co_await client::connect(c->at()));
    clients.back().say("pid");
  }
  std::size_t served = 0;
  for (std::size_t i = 50; i < clients.size(); ++i) {  // the first ones are what it has been given
    const auto line = co_await clients[i].line();
    served += line.starts_with(std::to_string(chosen) + " ") || line.starts_with("(") ? 0 : 1;
  }
  CHECK(served == 50);
  ::kill(chosen, SIGCONT);
  for (std::size_t i = 0; i < 32; ++i) {
    const auto line = co_await clients[i].line();
    CHECK(line.starts_with(std::to_string(chosen) + " "));
  }
  clients.clear();
  co_await c->stop();
}

ASYNC_TEST("a listener that a worker has shut down for all listens again, and nobody ends") {
  for (const auto how : distributions) {
    auto c = co_await running::ready(options_for(how, 2));
    const auto done = co_await ask_once(c->at(), "shutdown-listeners");
    CHECK(done == "shutdown-listeners done");
    for (int i = 0; i < 4; ++i) {
      std::string answer;
      for (int tries = 0; tries < 500 && answer != "on"; ++tries) {  // refused for a moment
        answer = co_await ask_once(c->at(), "echo on");
        if (answer != "on") co_await sleep(2ms);
      }
      CHECK(answer == "on");
    }
    CHECK(c->count(event_kind::exited) == 0);
    const int status = co_await c->stop();
    CHECK(status == 0);
  }
}

}  // namespace
}  // namespace cohort::test::hostile_test
