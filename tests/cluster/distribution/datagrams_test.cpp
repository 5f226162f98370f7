// SPDX-License-Identifier: BSL-1.0
// UDP sockets of a cluster; and what a worker is started with and shown as.
#include <chrono>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include <signal.h>
#include <unistd.h>

#include "../running.hpp"
#include "bound_sockets.hpp"
#include "../../../include/cohort/core/task_group.hpp"
#include "../../../include/cohort/core/timeout.hpp"
#include "../../../include/cohort/net/endpoint.hpp"

namespace cohort::test::datagrams_test {
namespace {

asio::ip::udp::endpoint address_of(const running& c) {
  const auto endpoint = parse_endpoint(c.last(event_kind::listening).text.substr(4));
  return {endpoint.address(), endpoint.port()};
}

/// Asks from a port of its own; empty if nobody answers within the limit.
asio::awaitable<std::string> ask(asio::ip::udp::endpoint to, std::chrono::milliseconds limit = 2s) {
  asio::ip::udp::socket socket(co_await asio::this_coro::executor, asio::ip::udp::v4());
  co_await socket.async_send_to(asio::buffer("?", 1), to, asio::use_awaitable);
  char buffer[64];
  std::size_t size = 0;
  try {
    size = co_await with_timeout(socket.async_receive(asio::buffer(buffer), asio::use_awaitable), limit);
  } catch (const std::system_error&) {
  }
  co_return std::string(buffer, size);
}

/// Waits until the workers that there should be serve, and have the sockets among them.
asio::awaitable<void> settle(const running& c, asio::ip::udp::endpoint at, distribution how) {
  const bool settled =
      co_await eventually([&] { return is_settled(c, at.port(), "udp", how == distribution::reuse_port); });
  CHECK_MESSAGE(settled, "the sockets are not with the workers");
}

cluster_options datagram_options(distribution how, unsigned workers) {
  cluster_options options;
  options.listen = {"udp:127.0.0.1:0"};
  options.workers = workers;
  options.distribution = how;
  options.program = helper("worker");
  return options;
}

std::string command_line(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/cmdline", std::ios::binary);
  const std::string all(std::istreambuf_iterator<char>(file), {});
  return all.substr(0, all.find('\0'));
}

}  // namespace

ASYNC_TEST("workers serve datagrams, from a socket that they share or each from its own") {
  for (const auto how : {distribution::shared, distribution::reuse_port, distribution::round_robin}) {
    CAPTURE(to_string(how));
    auto c = co_await running::ready(datagram_options(how, 2));
    const auto at = address_of(*c);
    co_await settle(*c, at, how);
    std::set<std::string> answers;
    bool all = true;
    for (int i = 0; i < 40; ++i) {
      const auto answer = co_await ask(at);
      all = all && !answer.empty();
      answers.insert(answer);
    }
    CHECK(all);
    if (how == distribution::reuse_port) CHECK(answers.size() == 2);
    const int status = co_await c->stop();
    CHECK(status == 0);
  }
}

ASYNC_TEST("datagrams for a worker that is killed are answered by another one, or by its replacement") {
  for (const auto how : {distribution::shared, distribution::reuse_port}) {
    CAPTURE(to_string(how));
    auto c = co_await running::ready(datagram_options(how, 2));
    const auto at = address_of(*c);
    ::kill(c->pid(1), SIGKILL);
    co_await c->until(event_kind::exited);
    co_await c->until(event_kind::ready, 3);
    co_await settle(*c, at, how);
    for (int i = 0; i < 20; ++i) {
      const auto answer = co_await ask(at);
      CHECK_FALSE(answer.empty());
    }
    const auto result = co_await c->reload();
    CHECK(result.success());
    co_await settle(*c, at, how);
    for (int i = 0; i < 20; ++i) {
      const auto answer = co_await ask(at);
      CHECK_FALSE(answer.empty());
    }
    c->primary.scale(1);
    co_await settle(*c, at, how);
    for (int i = 0; i < 20; ++i) {
      const auto answer = co_await ask(at);
      CHECK(answer.starts_with("1 "));
    }
    const int status = co_await c->stop();
    CHECK(status == 0);
  }
}

ASYNC_TEST("a UDP port that is taken is said, also for sockets that would share it") {
  for (const auto how : {distribution::shared, distribution::reuse_port}) {
    asio::ip::udp::endpoint at(asio::ip::make_address("127.0.0.1"), 0);
    listen_settings settings;
    settings.reuse_port = true;
    const descriptor taken = open_datagram_socket(at, settings);
    cluster_options options;
    options.listen = {to_string(at)};
    options.workers = 1;
    options.distribution = how;
    options.program = helper("worker");
    const auto text = co_await refusal(options);
    CHECK(text == "listen " + to_string(at) + ": Address already in use");
  }
}

ASYNC_TEST("the processes show their title, the slot and the generation, and that they drain") {
  auto options = options_for(distribution::round_robin, 1);
  options.program = helper("worker", "title=shop");
  auto c = co_await running::ready(options);
  const pid_t old = c->pid(1);
  CHECK(command_line(old) == "shop: worker 1 gen 1");
  auto busy = co_await client::connect(c->at());
  const auto begun = co_await busy.ask("hold");
  CHECK(begun == "holding");
  const auto result = co_await c->reload();
  CHECK(result.success());
  const bool shown = co_await eventually([&] { return command_line(old) == "shop: worker 1 gen 1 [draining]"; });
  CHECK(shown);
  CHECK(command_line(c->pid(1)) == "shop: worker 1 gen 2");
  const auto answer = co_await busy.ask("go on");
  CHECK(answer == "hold done");
  co_await c->stop();
}

ASYNC_TEST("who wants to has a word in the command of each worker before it starts") {
  auto options = options_for(distribution::round_robin, 2);
  std::set<unsigned> slots;
  options.on_start = [&](unsigned slot, command& program) {
    slots.insert(slot);
    program.argv0("own name of " + std::to_string(slot));
  };
  auto c = co_await running::ready(options);
  CHECK(slots == std::set<unsigned>{1, 2});
  CHECK(command_line(c->pid(2)) == "own name of 2");
  co_await c->stop();
}

ASYNC_TEST("idle connections are closed one after the other over the time that is given for it") {
  auto options = options_for(distribution::round_robin, 1);
  options.program = helper("worker", "spread=400");
  auto c = co_await running::ready(options);
  std::vector<client> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(co_await client::connect(c->at()));
    const auto answer = co_await clients.back().ask("echo x");
    CHECK(answer == "x");
  }
  std::size_t closed = 0;
  task_group tasks(co_await asio::this_coro::executor);
  const auto watch = [&closed](client& one) -> asio::awaitable<void> {
    co_await error_of(one.socket().async_wait(asio::ip::tcp::socket::wait_read, asio::use_awaitable));
    ++closed;
  };
  for (auto& each : clients) tasks.start(watch(each), [](std::exception_ptr) {});
  std::set<std::size_t> seen;
  c->primary.stop("the test ends");
  const bool all = co_await eventually([&] {
    seen.insert(closed);
    return closed == clients.size();
  });
  CHECK(all);
  CHECK(seen.size() > 3);  // not all at one time
  co_await tasks.wait_empty();
  co_await c->ended();
}

}  // namespace cohort::test::datagrams_test
