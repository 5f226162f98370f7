// SPDX-License-Identifier: BSL-1.0
#include "../../../include/cohort/cluster/picker.hpp"
#include "../../../include/cohort/cluster/distribution/pickers.hpp"
#include "../../../include/cohort/ipc/handle.hpp"

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <arpa/inet.h>
#include <signal.h>
#include <unistd.h>

#include "../running.hpp"

namespace cohort::test::pickers_test {
namespace {

std::vector<candidate> candidates(const std::vector<std::size_t>& open) {
  std::vector<candidate> result;
  for (std::size_t i = 0; i < open.size(); ++i) {
    result.push_back({static_cast<unsigned>(i + 1), static_cast<pid_t>(100 + i), open[i], 0, i});
  }
  return result;
}

std::string bytes_of(const char* address) {
  in_addr parsed{};
  REQUIRE(::inet_pton(AF_INET, address, &parsed) == 1);
  return {reinterpret_cast<const char*>(&parsed), sizeof parsed};
}

unsigned heaviest(const std::string& address, const std::vector<unsigned>& slots) {
  unsigned best = slots.front();
  for (const unsigned each : slots) {
    if (detail::weight_of(address, each) > detail::weight_of(address, best)) best = each;
  }
  return best;
}

/// A client whose address is `from`, a part of 127/8.
asio::awaitable<client> connect_as(const char* from, asio::ip::tcp::endpoint to) {
  client result(co_await asio::this_coro::executor);
  result.socket().open(asio::ip::tcp::v4());
  result.socket().bind(asio::ip::tcp::endpoint(asio::ip::make_address(from), 0));
  co_await result.socket().async_connect(to, asio::use_awaitable);
  co_return result;
}

PLAIN_TEST("in turn means the next slot, whatever order they stand in and whoever is missing") {
  auto turn = pick_in_turn();
  const any_handle none;
  auto among = candidates({0, 0, 0});
  std::swap(among[0], among[2]);
  std::vector<unsigned> chosen;
  for (int i = 0; i < 4; ++i) chosen.push_back(among[turn.pick(none, among)].slot);
  among.erase(among.begin() + 1);  // slot 2
  for (int i = 0; i < 3; ++i) chosen.push_back(among[turn.pick(none, among)].slot);
  CHECK(chosen == std::vector<unsigned>{1, 2, 3, 1, 3, 1, 3});
}

PLAIN_TEST("the least connections win, and those that have equally many take turns") {
  auto least = pick_least_connections();
  const any_handle none;
  CHECK(least.pick(none, candidates({3, 1, 2})) == 1);
  CHECK(least.pick(none, candidates({0, 1, 2})) == 0);
  std::vector<std::size_t> chosen;
  for (int i = 0; i < 4; ++i) chosen.push_back(least.pick(none, candidates({5, 5, 5, 9})));
  CHECK(chosen == std::vector<std::size_t>{1, 2, 0, 1});
}

PLAIN_TEST("addresses spread evenly over slots, and only those of a slot that goes move") {
  std::map<unsigned, int> count;
  int moved = 0;
  for (unsigned i = 0; i < 4000; ++i) {
    const in_addr address{htonl(0x0a000000 + i)};
    const std::string text(reinterpret_cast<const char*>(&address), sizeof address);
    const unsigned before = heaviest(text, {1, 2, 3, 4}), after = heaviest(text, {1, 2, 4});
    ++count[before];
    if (before != 3 && before != after) ++moved;
  }
  CHECK(moved == 0);
  for (const auto& [slot, number] : count) {
    CAPTURE(slot);
    CHECK(number > 850);
    CHECK(number < 1150);
  }
}

PLAIN_TEST("the weight of an address does not depend on when or where it is asked for") {
  CHECK(detail::weight_of(bytes_of("10.1.2.3"), 1) == detail::weight_of(bytes_of("10.1.2.3"), 1));
  CHECK(detail::weight_of(bytes_of("10.1.2.3"), 1) != detail::weight_of(bytes_of("10.1.2.3"), 2));
  CHECK(detail::weight_of(bytes_of("10.1.2.3"), 1) != detail::weight_of(bytes_of("10.1.2.4"), 1));
}

}  // namespace

ASYNC_TEST("with least connections new ones go where the old ones have ended") {
  auto c = co_await running::ready(options_for(distribution::least_connections, 2));
  std::map<std::string, std::vector<client>> open;
  for (int i = 0; i < 6; ++i) {
    auto one = co_await client::connect(c->at());
    const auto pid = co_await one.ask("pid");
    open[pid].push_back(std::move(one));
  }
  REQUIRE(open.size() == 2);
  for (const auto& each : open) CHECK(each.second.size() == 3);
  const std::string first = open.begin()->first;
  open.begin()->second.clear();
  const auto primary_knows = [&] {
    for (const auto& each : c->primary.stats().workers) {
      if (first.starts_with(std::to_string(each.pid))) return each.leased == 0;
    }
    return false;
  };
  const bool known = co_await eventually(primary_knows);
  CHECK(known);
  for (int i = 0; i < 3; ++i) {
    auto one = co_await client::connect(c->at());
    const auto pid = co_await one.ask("pid");
    CHECK(pid == first);
    open[pid].push_back(std::move(one));
  }
  open.clear();
  co_await c->stop();
}

ASYNC_TEST("by address, each client finds the same worker again, and a replacement inherits the clients of its slot") {
  auto c = co_await running::ready(options_for(distribution::by_address, 3));
  std::map<std::string, std::string> slots;
  std::set<std::string> pids;
  const char* const froms[] = {"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6",
                               "127.0.0.7", "127.0.0.8", "127.0.0.9", "127.0.1.1", "127.0.1.2",
                               "127.3.1.9", "127.7.7.7", "127.9.1.3"};
  const auto slot_of = [](const std::string& answer) { return answer.substr(answer.find(' ') + 1); };
  for (int round = 0; round < 3; ++round) {
    for (const char* from : froms) {
      auto one = co_await connect_as(from, c->at());
      const auto answer = co_await one.ask("pid");
      pids.insert(answer);
      if (round == 0) slots[from] = slot_of(answer);
      CHECK(slots[from] == slot_of(answer));
    }
  }
  CHECK(pids.size() == 3);
  ::kill(c->pid(2), SIGKILL);
  co_await c->until(event_kind::ready, 4);
  for (const char* from : froms) {
    auto one = co_await connect_as(from, c->at());
    const auto answer = co_await one.ask("pid");
    CHECK(slots[from] == slot_of(answer));
  }
  co_await c->stop();
}

ASYNC_TEST("a picker of the user's own chooses, per listener") {
  auto options = options_for(distribution::round_robin, 3);
  std::vector<std::size_t> offered;
  options.distribution = distribution::custom;
  options.picker = [&offered](const any_handle& connection, std::span<const candidate> among) {
    CHECK(connection.kind() == handle_kind::tcp_socket);
    offered.push_back(among.size());
    std::size_t chosen = 0;
    for (std::size_t i = 0; i < among.size(); ++i) {
      if (among[i].slot == 3) chosen = i;
    }
    return chosen;
  };
  options.listen.push_back({"127.0.0.1:0", distribution::round_robin});
  auto c = co_await running::ready(options);
  std::set<std::string> chosen, in_turn;
  for (int i = 0; i < 6; ++i) {
    const auto one = co_await ask_once(c->at(0), "pid");
    chosen.insert(one);
    const auto other = co_await ask_once(c->at(1), "pid");
    in_turn.insert(other);
  }
  CHECK(chosen.size() == 1);
  CHECK(chosen.begin()->ends_with(" 3"));
  CHECK(in_turn.size() == 3);
  CHECK(offered == std::vector<std::size_t>(6, 3));
  co_await c->stop();
}

ASYNC_TEST("a distribution of the user's own without a picker is refused") {
  auto options = options_for(distribution::custom, 1);
  const auto text = co_await refusal(options);
  CHECK(text.find("no picker") != std::string::npos);
}

ASYNC_TEST("when all workers have as many connections as they may, the next ones wait in the kernel's queue") {
  for (const auto how : {distribution::round_robin, distribution::least_connections, distribution::by_address,
                         distribution::shared, distribution::reuse_port}) {
    CAPTURE(to_string(how));
    auto options = options_for(how, 2);
    options.worker.max_connections = 2;
    options.worker.idle_grace = 20ms;
    options.ping_interval = 10ms;
    options.program = helper("worker", "connections=2");
    auto c = co_await running::ready(options);
    std::vector<client> clients;
    for (int i = 0; i < 8; ++i) clients.push_back(co_await client::connect(c->at()));
    std::map<std::string, int> open;  // connections of each worker that it has answered and that are not closed
    std::size_t served = 0;
    const auto use = [&](client& each) -> asio::awaitable<void> {
      const auto who = co_await each.ask("pid");
      CHECK(++open[who] <= 2);
      // The worker answers this one again and again. It would take and answer further ones between these.
      for (int turn = 0; turn < 20; ++turn) {
        const auto again = co_await each.ask("pid");
        CHECK(again == who);
      }
      --open[who];
      each.close_hard();  // and the next one comes in
      ++served;
    };
    const auto executor = co_await asio::this_coro::executor;
    for (auto& each : clients) asio::co_spawn(executor, use(each), asio::detached);
    const bool all = co_await eventually([&] { return served == clients.size(); });
    REQUIRE(all);
    co_await c->stop();
  }
}

}  // namespace cohort::test::pickers_test
