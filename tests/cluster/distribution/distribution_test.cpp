// SPDX-License-Identifier: BSL-1.0
#include "../../../include/cohort/cluster/distribution/handoff.hpp"
#include "../../../include/cohort/cluster/distribution/shared_listener.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <signal.h>
#include <unistd.h>

#include "../running.hpp"
#include "bound_sockets.hpp"

namespace cohort::test::distribution_test {
namespace {

/// Opens `count` connections, each with a request.
asio::awaitable<std::vector<client>> connect_all(asio::ip::tcp::endpoint to, int count, std::string request) {
  std::vector<client> result;
  for (int i = 0; i < count; ++i) {
    result.push_back(co_await client::connect(to));
    result.back().say(request);
  }
  co_return result;
}

/// Takes what connections answer while they do, without waiting for those that do not.
class answers {
 public:
  static std::shared_ptr<answers> collect(const asio::any_io_executor& executor, std::vector<client>& clients) {
    auto self = std::make_shared<answers>();
    for (auto& each : clients) asio::co_spawn(executor, take(self, each), asio::detached);
    return self;
  }

  std::size_t count(const std::string& text) const {
    return static_cast<std::size_t>(std::count(texts.begin(), texts.end(), text));
  }

  asio::awaitable<void> until(std::size_t number) {
    const bool came = co_await eventually([&] { return texts.size() >= number; });
    CHECK_MESSAGE(came, "there are only ", texts.size(), " answers");
  }

  std::vector<std::string> texts;

 private:
  static asio::awaitable<void> take(std::shared_ptr<answers> self, client& from) {
    auto text = co_await from.line();
    self->texts.push_back(std::move(text));
  }
};

/// The slot that answers a "pid".
unsigned slot_in(const std::string& answer) {
  const auto space = answer.find(' ');
  return space == std::string::npos ? 0 : static_cast<unsigned>(std::stoul(answer.substr(space + 1)));
}

/// A connection from a certain port, 0 for any: SO_REUSEPORT always brings it to the same listener.
asio::awaitable<client> connect_from(std::uint16_t port, asio::ip::tcp::endpoint to) {
  // An address that nobody else on this machine connects from, so that the port is free.
  const auto pid = static_cast<std::uint32_t>(::getpid());
  const asio::ip::address_v4 from(0x7f400000u | (pid & 0x3fffff));
  client result(co_await asio::this_coro::executor);
  result.socket().open(asio::ip::tcp::v4());
  result.socket().set_option(asio::ip::tcp::socket::reuse_address(true));
  result.socket().bind(asio::ip::tcp::endpoint(from, port));
  co_await result.socket().async_connect(to, asio::use_awaitable);
  co_return result;
}

/// Client ports for each slot.
asio::awaitable<std::map<unsigned, std::vector<std::uint16_t>>> ports_of_slots(asio::ip::tcp::endpoint at,
                                                                               unsigned slots) {
  std::map<unsigned, std::vector<std::uint16_t>> ports;
  for (int tries = 0; tries < 300; ++tries) {
    auto one = co_await connect_from(0, at);
    const auto port = one.socket().local_endpoint().port();
    const auto answer = co_await one.ask("pid");
    auto& found = ports[slot_in(answer)];
    const bool new_one = std::find(found.begin(), found.end(), port) == found.end();  // a closed one's is free again
    if (new_one && found.size() < 4) found.push_back(port);
    one.close_hard();  // or its port would be taken for a minute
    bool enough = ports.size() == slots;
    for (const auto& each : ports) enough = enough && each.second.size() == 4;
    if (enough) break;
  }
  co_return ports;
}

/// Waits until each slot's worker accepts on its own listener, and nobody on another's.
asio::awaitable<void> settle(const running& c) {
  const auto port = c.at().port();
  const bool settled = co_await eventually([&] { return is_settled(c, port, "tcp", true); });
  CHECK_MESSAGE(settled, "the listeners are not each with its own worker");
}

ASYNC_TEST("round robin gives all workers the same number of connections") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 3));
  auto clients = co_await connect_all(c->at(), 100, "pid");
  std::map<std::string, int> served;
  for (auto& each : clients) {
    const auto answer = co_await each.line();
    ++served[answer];
  }
  REQUIRE(served.size() == 3);
  int least = 100, most = 0;
  for (const auto& each : served) {
    least = std::min(least, each.second);
    most = std::max(most, each.second);
  }
  CHECK(most - least <= 1);
  const int status = co_await c->stop();
  CHECK(status == 0);
}

ASYNC_TEST("a worker that dies before it takes a socket gives it back") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 2));
  const auto victim = c->pid(1);
  ::kill(victim, SIGSTOP);
  auto clients = co_await connect_all(c->at(), 40, "echo served");
  const auto got = answers::collect(co_await asio::this_coro::executor, clients);
  co_await got->until(20);
  auto more = co_await connect_all(c->at(), 2, "echo served");  // one for each worker, behind the others
  const auto later = answers::collect(co_await asio::this_coro::executor, more);
  co_await later->until(1);
  CHECK(later->texts.size() == 1);
  CHECK(got->texts.size() == 20);  // the others are in the hands of the one that is stopped
  ::kill(victim, SIGKILL);
  co_await got->until(40);
  CHECK(got->count("served") == 40);
  co_await later->until(2);
  CHECK(later->count("served") == 2);
  const int status = co_await c->stop();
  CHECK(status == 0);
}

ASYNC_TEST("a worker that hangs does not stall the others, and holds up no more than its window") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 2));
  ::kill(c->pid(1), SIGSTOP);
  auto clients = co_await connect_all(c->at(), 200, "echo served");
  const auto got = answers::collect(co_await asio::this_coro::executor, clients);
  co_await got->until(168);
  const auto after = co_await ask_once(c->at(), "echo after");  // behind all of them
  CHECK(after == "after");
  CHECK(got->texts.size() == 168);
  ::kill(c->pid(1), SIGCONT);
  co_await got->until(200);
  CHECK(got->count("served") == 200);
  const int status = co_await c->stop();
  CHECK(status == 0);
}

ASYNC_TEST("when all workers hang the connections wait, and are served when they go on") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 2));
  ::kill(c->pid(1), SIGSTOP);
  ::kill(c->pid(2), SIGSTOP);
  auto clients = co_await connect_all(c->at(), 150, "echo served");
  const auto got = answers::collect(co_await asio::this_coro::executor, clients);
  const bool full = co_await eventually([&] {
    const auto stats = c->primary.stats();
    return std::all_of(stats.workers.begin(), stats.workers.end(), [](const auto& each) { return each.leased == 32; });
  });
  CHECK(full);  // each has its window of them
  CHECK(got->texts.empty());
  ::kill(c->pid(2), SIGKILL);  // its share needs another one
  ::kill(c->pid(1), SIGCONT);
  co_await got->until(150);
  CHECK(got->count("served") == 150);
  const int status = co_await c->stop();
  CHECK(status == 0);
}

ASYNC_TEST("while there is no worker connections wait in the kernel, and are served later") {
  restart_policy policy;
  policy.max_restarts = 0;
  policy.min_backoff = 200ms;
  for (const auto how : distributions) {
    auto options = options_for(how, 2);
    options.restart = policy;
    auto c = co_await running::ready(options);
    ::kill(c->pid(1), SIGKILL);
    ::kill(c->pid(2), SIGKILL);
    co_await c->until(event_kind::exited, 2);
    auto clients = co_await connect_all(c->at(), 40, "echo served");
    const auto got = answers::collect(co_await asio::this_coro::executor, clients);
    co_await got->until(40);
    CHECK(got->count("served") == 40);
    const int status = co_await c->stop();
    CHECK(status == 0);
  }
}

ASYNC_TEST("what waits with a worker that drains goes to another one") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 2));
  const auto victim = c->pid(1);
  ::kill(victim, SIGSTOP);
  auto clients = co_await connect_all(c->at(), 40, "pid");
  const auto got = answers::collect(co_await asio::this_coro::executor, clients);
  co_await got->until(20);
  ::kill(victim, SIGTERM);
  ::kill(victim, SIGCONT);
  co_await got->until(40);
  for (const auto& each : got->texts) CHECK(slot_in(each) != 0);
  co_await c->until(event_kind::ready, 3);
  const int status = co_await c->stop();
  CHECK(status == 0);
}

ASYNC_TEST("a worker with a full descriptor table takes what it can, and the rest goes elsewhere") {
  if (sanitized) co_return;  // UBSan's check of virtual calls needs descriptors itself
  auto options = options_for(distribution::round_robin, 2);
  options.program = helper("worker", "descriptors=40");
  auto c = co_await running::ready(options);
  auto first = co_await client::connect(c->at());
  const auto filled = co_await first.ask("fill-descriptors");
  CHECK(filled == "fill-descriptors done");
  auto clients = co_await connect_all(c->at(), 30, "echo served");
  const auto got = answers::collect(co_await asio::this_coro::executor, clients);
  co_await got->until(30);
  CHECK(got->count("served") == 30);
  const int status = co_await c->stop();
  CHECK(status == 0);
}

ASYNC_TEST("reuse_port brings a client port to the same slot, also to its successors") {
  auto c = co_await running::ready(options_for(distribution::reuse_port, 3));
  co_await settle(*c);
  const auto ports = co_await ports_of_slots(c->at(), 3);
  REQUIRE(ports.size() == 3);
  REQUIRE(ports.count(0) == 0);
  for (unsigned round = 0; round < 3; ++round) {
    for (const auto& [slot, its] : ports) {
      for (const auto port : its) {
        auto one = co_await connect_from(port, c->at());
        const auto answer = co_await one.ask("pid");
        CHECK(answer == std::to_string(c->pid(slot)) + " " + std::to_string(slot));
        one.close_hard();
      }
    }
    ::kill(c->pid(1 + round), round == 1 ? SIGTERM : SIGKILL);
    co_await c->until(event_kind::ready, 4 + round);
    co_await c->until(event_kind::exited, 1 + round);
    co_await settle(*c);
  }
  const int status = co_await c->stop();
  CHECK(status == 0);
}

ASYNC_TEST("the listener of a slot without a worker is lent to another one, and returns") {
  restart_policy policy;
  policy.max_restarts = 0;
  policy.min_backoff = 1s;  // in which those that wait are answered by the other one
  policy.jitter = 0;
  auto options = options_for(distribution::reuse_port, 2);
  options.restart = policy;
  auto c = co_await running::ready(options);
  co_await settle(*c);
  const auto ports = co_await ports_of_slots(c->at(), 2);
  REQUIRE(ports.size() == 2);
  const auto& first = ports.at(1);
  ::kill(c->pid(1), SIGSTOP);
  std::vector<client> queued;  // behind one that will never take them
  for (const auto port : first) {
    queued.push_back(co_await connect_from(port, c->at()));
    queued.back().say("pid");
  }
  ::kill(c->pid(1), SIGKILL);
  co_await c->until(event_kind::restarting);
  for (auto& each : queued) {
    const auto answer = co_await each.line();
    CHECK(slot_in(answer) == 2);
    each.close_hard();
  }
  CHECK(c->count(event_kind::ready) == 2);
  co_await c->until(event_kind::ready, 3);
  co_await settle(*c);
  for (const auto port : first) {
    auto one = co_await connect_from(port, c->at());
    const auto answer = co_await one.ask("pid");
    CHECK(slot_in(answer) == 1);
    one.close_hard();
  }
  const int status = co_await c->stop();
  CHECK(status == 0);
}

ASYNC_TEST("the listener of a worker that drains is lent at once, not only when it is gone") {
  auto c = co_await running::ready(options_for(distribution::reuse_port, 2));
  co_await settle(*c);
  const auto ports = co_await ports_of_slots(c->at(), 2);
  REQUIRE(ports.size() == 2);
  const auto& first = ports.at(1);
  auto slow = co_await connect_from(first[0], c->at());
  slow.say("slow 60000");
  auto last = co_await connect_from(first[1], c->at());
  const auto left = co_await last.ask("leave");  // has no successor, and has to wait for the slow one
  CHECK(left == "leave done");
  for (std::size_t i = 2; i < 4; ++i) {
    auto one = co_await connect_from(first[i], c->at());
    const auto answer = co_await one.ask("pid");
    CHECK(slot_in(answer) == 2);
    one.close_hard();
  }
  CHECK(c->count(event_kind::exited) == 0);
  c->primary.kill("enough");
  const int status = co_await c->ended();
  CHECK(status == 1);
}

ASYNC_TEST("a listener is not left with a borrower that hangs") {
  for (int run = 0; run < 2; ++run) {
    auto c = co_await running::ready(options_for(distribution::reuse_port, 3));
    co_await settle(*c);
    const auto ports = co_await ports_of_slots(c->at(), 3);
    REQUIRE(ports.size() == 3);
    const unsigned hung = run == 0 ? 2 : 3, lives = run == 0 ? 3 : 2;
    ::kill(c->pid(hung), SIGSTOP);
    // the one whose listener is looked for a new place leaves, and has no successor
    auto last = co_await connect_from(ports.at(1).front(), c->at());
    const auto left = co_await last.ask("leave");
    CHECK(left == "leave done");
    last.close_hard();
    co_await c->until(event_kind::not_restarted);
    std::vector<client> clients;
    for (const auto port : ports.at(1)) {
      clients.push_back(co_await connect_from(port, c->at()));
      clients.back().say("pid");
    }
    for (auto& each : clients) {
      const auto answer = co_await each.line();
      CHECK(slot_in(answer) == lives);
    }
    c->primary.kill("enough");
    const int status = co_await c->ended();
    CHECK(status == 1);
  }
}

ASYNC_TEST("with workers that come and go no connection is left hanging") {
  restart_policy policy;
  policy.max_restarts = 1000;
  for (const auto how : distributions) {
    auto options = options_for(how, 3);
    options.restart = policy;
    auto c = co_await running::ready(options);
    const auto loop = client_loop::start(co_await asio::this_coro::executor, c->at(), "echo x", 8);
    std::uint32_t random = 12345;
    std::set<pid_t> ended;
    for (int round = 0; round < 15; ++round) {
      random = random * 1664525 + 1013904223;
      const auto pid = c->pid(1 + (random >> 16) % 3);
      if (ended.insert(pid).second) ::kill(pid, (random >> 24) % 2 == 0 ? SIGKILL : SIGTERM);
      if (round % 3 == 0) co_await c->until(event_kind::ready, 3 + ended.size());
      co_await loop->more(3);
    }
    co_await c->until(event_kind::exited, ended.size());
    co_await loop->more(20);
    co_await loop->stop();
    const auto served = static_cast<std::size_t>(std::count(loop->answers.begin(), loop->answers.end(), "x"));
    CHECK(served + loop->failures() == loop->answers.size());
    CHECK(served > 0);
    const int status = co_await c->stop();
    CHECK(status == 0);
  }
}

}  // namespace
}  // namespace cohort::test::distribution_test
