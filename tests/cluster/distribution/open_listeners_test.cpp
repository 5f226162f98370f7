// SPDX-License-Identifier: BSL-1.0
// What a cluster listens on beside ports that it binds: unix sockets, and sockets that it has inherited.
#include "../../../include/cohort/cluster/distribution/open_listeners.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../process/directory.hpp"
#include "../../support/fault.hpp"
#include "../running.hpp"
#include "../service/manager.hpp"

namespace cohort::test::open_listeners_test {
namespace {

using local_endpoint = asio::local::stream_protocol::endpoint;

local_endpoint local_at(const std::string& text) { return parse_unix_endpoint(text); }

bool exists(const std::string& path) {
  struct stat found = {};
  return ::lstat(path.c_str(), &found) == 0;
}

cluster_options any_options(distribution how, unsigned workers) {
  cluster_options options;
  options.workers = workers;
  options.distribution = how;
  options.program = helper("worker-any");
  return options;
}

/// A listener that outlives the cluster, as that of a service manager does.
struct kept_listener {
  kept_listener() : at(parse_endpoint("127.0.0.1:0")), socket(open_listener(at, listen_settings())) {}

  /// A copy for a cluster to own.
  std::string lend() const { return "fd:" + std::to_string(system::call.duplicate(socket.get(), 3)); }

  /// What waits in the queue.
  descriptor accept() const { return descriptor(::accept4(socket.get(), nullptr, nullptr, SOCK_CLOEXEC)); }

  asio::ip::tcp::endpoint at;
  descriptor socket;
};

template <class Function>
std::string failure_of(Function function) {
  try {
    function();
  } catch (const std::system_error& error) {
    return error.what();
  }
  return {};
}

ASYNC_TEST("a cluster serves a unix socket beside a port, with one handler") {
  const directory scratch;
  const auto path = "unix:" + (scratch / "app.sock");
  for (const auto how : distributions) {
    auto options = any_options(how, 2);
    options.listen.push_back("127.0.0.1:0");
    options.listen.push_back(path);
    options.socket_mode = 0600;
    options.defer_accept = true;
    auto c = co_await running::ready(std::move(options));
    struct stat file = {};
    REQUIRE(::stat((scratch / "app.sock").c_str(), &file) == 0);
    CHECK((file.st_mode & 0777) == 0600);
    CHECK(c->last(event_kind::listening).text == path);
    for (int i = 0; i < 8; ++i) {
      auto answer = co_await ask_once(local_at(path), "echo local");
      CHECK(answer == "local");
      answer = co_await ask_once(c->at(), "echo tcp");
      CHECK(answer == "tcp");
    }
    const int status = co_await c->stop();
    CHECK(status == 0);
    CHECK_FALSE(exists(scratch / "app.sock"));
  }
}

ASYNC_TEST("a cluster listens at each address of a name, and at all addresses") {
  auto options = any_options(distribution::round_robin, 1);
  options.listen = {"localhost:0", "*:0"};
  const auto local = expand_endpoint("localhost:0").size();
  auto c = co_await running::ready(options);
  CHECK(c->count(event_kind::listening) == local + 1);
  for (std::size_t i = 0; i < local; ++i) {
    const auto answer = co_await ask_once(c->at(i), "echo by name");
    CHECK(answer == "by name");
  }
  const asio::ip::tcp::endpoint four(asio::ip::address_v4::loopback(), c->at(local).port());
  const auto answer = co_await ask_once(four, "echo to all");
  CHECK(answer == "to all");
  co_await c->stop();
}

ASYNC_TEST("an abstract name is served like a path") {
  const auto name = "unix:@cohort-test-" + std::to_string(::getpid());
  for (const auto how : distributions) {
    auto options = any_options(how, 2);
    options.listen = {name};
    auto c = co_await running::ready(options);
    const auto answer = co_await ask_once(local_at(name), "echo abstract");
    CHECK(answer == "abstract");
    const int status = co_await c->stop();
    CHECK(status == 0);
    const auto refused = co_await ask_once(local_at(name), "echo x");
    CHECK(refused == "(refused)");
  }
}

ASYNC_TEST("the connections of a unix socket reach all workers, and outlive those that die") {
  const directory scratch;
  const auto path = "unix:" + (scratch / "app.sock");
  for (const auto how : distributions) {
    auto options = any_options(how, 2);
    options.listen = {path};
    auto c = co_await running::ready(options);
    std::vector<local_client> held;
    std::vector<std::string> pids;
    const auto both = [&] {
      const auto has = [&](unsigned slot) {
        return std::any_of(pids.begin(), pids.end(),
                           [&](const auto& each) { return each.ends_with(' ' + std::to_string(slot)); });
      };
      return has(1) && has(2);
    };
    // Each held open and busy, so that the other worker comes to accept one.
    for (int i = 0; i < 1000 && !both(); ++i) {
      held.push_back(co_await local_client::connect(local_at(path)));
      pids.push_back(co_await held.back().ask("pid"));
      held.back().say("busy 5");
    }
    CHECK(both());
    held.clear();
    ::kill(c->pid(1), SIGKILL);
    for (int i = 0; i < 10; ++i) {
      const auto answer = co_await ask_once(local_at(path), "echo still");
      CHECK((answer == "still" || answer == client::closed || answer == client::reset));
    }
    co_await c->until(event_kind::ready, 3);
    const auto answer = co_await ask_once(local_at(path), "echo again");
    CHECK(answer == "again");
    const int status = co_await c->stop();
    CHECK(status == 0);
  }
}

ASYNC_TEST("a cluster that stops answers everybody who has got through to its unix socket") {
  const directory scratch;
  const auto name = "unix:@cohort-test-" + std::to_string(::getpid()), path = "unix:" + (scratch / "app.sock");
  const auto executor = co_await asio::this_coro::executor;
  for (const auto how : distributions) {
    for (const auto& where : {name, path}) {
      auto options = any_options(how, 2);
      options.listen = {where};
      auto c = co_await running::ready(options);
      bool over = false;
      int answered = 0, lost = 0;
      std::size_t clients = 4;
      const auto visit = [&]() -> asio::awaitable<void> {
        while (!over) {
          std::string answer;
          detail::asio_error error;
          local_client one(executor);
          co_await one.socket().async_connect(local_at(where), asio::redirect_error(asio::use_awaitable, error));
          if (error) {
            over = true;
            CHECK((error == asio::error::connection_refused || error.value() == ENOENT));
            break;
          }
          answer = co_await one.ask("echo x");
          ++(answer == "x" ? answered : lost);
        }
        --clients;
      };
      for (std::size_t i = clients; i > 0; --i) asio::co_spawn(executor, visit(), asio::detached);
      const bool began = co_await eventually([&] { return answered >= 100; });
      CHECK(began);
      const int status = co_await c->stop();
      CHECK(status == 0);
      const bool ended = co_await eventually([&] { return clients == 0; });
      CHECK(ended);
      CHECK(lost == 0);
    }
  }
}

ASYNC_TEST("a unix socket that somebody serves is refused, and one that was left behind is replaced") {
  const directory scratch;
  const auto path = "unix:" + (scratch / "app.sock");
  auto options = any_options(distribution::round_robin, 1);
  options.listen.push_back(path);
  auto c = co_await running::ready(options);
  auto second = std::make_shared<cluster>(co_await asio::this_coro::executor, options);
  const auto text = co_await text_of(second->run());
  CHECK(text == "listen " + path + ": Address already in use");
  CHECK(exists(scratch / "app.sock"));
  const auto answer = co_await ask_once(local_at(path), "echo first");
  CHECK(answer == "first");
  const int status = co_await c->stop();
  CHECK(status == 0);

  auto left_behind = open_unix_listener(local_at(path), 1);
  left_behind.file.release();
  left_behind.socket.reset();
  auto third = co_await running::ready(options);
  const auto other = co_await ask_once(local_at(path), "echo third");
  CHECK(other == "third");
  const int last = co_await third->stop();
  CHECK(last == 0);
}

ASYNC_TEST("no socket file is left when a later address fails") {
  const directory scratch;
  auto options = any_options(distribution::shared, 1);
  options.listen.push_back("unix:" + (scratch / "app.sock"));
  options.listen.push_back("unix:nowhere");
  auto c = std::make_shared<cluster>(co_await asio::this_coro::executor, options);
  const auto text = co_await text_of(c->run());
  CHECK(text == "listen unix:nowhere: want unix:/PATH or unix:@NAME: invalid option");
  CHECK_FALSE(exists(scratch / "app.sock"));
}

ASYNC_TEST("a worker that takes no local sockets fails aloud") {
  const auto name = "unix:@cohort-test-" + std::to_string(::getpid());
  cluster_options options;
  restart_policy policy;
  policy.max_failed_boots = 3;
  policy.max_restarts = 2;
  options.listen = {name};
  options.workers = 1;
  options.distribution = distribution::shared;
  options.program = helper("worker");
  options.restart = policy;
  options.start_timeout = 5s;
  auto c = running::start(co_await asio::this_coro::executor, std::move(options));
  co_await c->until(event_kind::draining);
  CHECK(c->last(event_kind::draining).text ==
        "worker: the handler takes no local socket: the handle is of another kind");
  c->primary.stop("the test ends");
  co_await c->ended();
}

ASYNC_TEST("an inherited socket is served, and goes on to listen when the cluster has stopped") {
  // reuse_port, which takes several sockets of one name: see service_test.cpp
  for (const auto how : {distribution::round_robin, distribution::shared}) {
    const kept_listener kept;
    auto options = any_options(how, 2);
    options.listen = {kept.lend()};
    auto c = co_await running::ready(options);
    CHECK(c->last(event_kind::listening).text == to_string(kept.at));
    for (int i = 0; i < 8; ++i) {
      const auto answer = co_await ask_once(kept.at, "echo inherited");
      CHECK(answer == "inherited");
    }
    auto slow = co_await client::connect(kept.at);
    slow.say("slow 100");
    auto other = co_await ask_once(kept.at, "echo x");
    CHECK(other == "x");
    const int status = co_await c->stop();
    CHECK(status == 0);
    const auto finished = co_await slow.line();
    CHECK(finished == "slow done");

    auto next = co_await client::connect(kept.at);
    const bool waits = co_await eventually([&] { return static_cast<bool>(kept.accept()); });
    CHECK(waits);

    // and the same for a successor
    auto again = any_options(how, 1);
    again.listen = {kept.lend()};
    auto successor = co_await running::ready(again);
    other = co_await ask_once(kept.at, "echo successor");
    CHECK(other == "successor");
    const int last = co_await successor->stop();
    CHECK(last == 0);
  }
}

ASYNC_TEST("what waits in the queue of an inherited socket is left to the successor") {
  for (const auto how : {distribution::round_robin, distribution::shared}) {
    const kept_listener kept;
    cluster_options options;
    options.listen = {kept.lend()};
    options.workers = 1;
    options.distribution = how;
    options.program = helper("worker-mute");
    auto c = running::start(co_await asio::this_coro::executor, std::move(options));
    co_await c->until(event_kind::started);
    auto waiting = co_await client::connect(kept.at);
    waiting.say("echo patience");
    c->primary.stop("the test ends");
    c->primary.kill("a mute worker would take its time");
    const int status = co_await c->ended();
    CHECK(status == 1);

    auto next = any_options(how, 1);
    next.listen = {kept.lend()};
    auto successor = co_await running::ready(next);
    const auto answer = co_await waiting.line();
    CHECK(answer == "patience");
    const int last = co_await successor->stop();
    CHECK(last == 0);
  }
}

ASYNC_TEST("no client is refused while one cluster follows the other on an inherited socket") {
  const auto executor = co_await asio::this_coro::executor;
  for (const auto how : {distribution::round_robin, distribution::shared}) {
    const kept_listener kept;
    auto options = any_options(how, 2);
    options.listen = {kept.lend()};
    auto c = co_await running::ready(options);
    auto clients = client_loop::start(executor, kept.at, "echo x", 4);
    for (int i = 0; i < 3; ++i) {
      co_await clients->more(50);
      const int status = co_await c->stop();
      CHECK(status == 0);
      auto next = any_options(how, 2);
      next.listen = {kept.lend()};
      c = co_await running::ready(next);
    }
    co_await clients->more(50);
    co_await clients->stop();
    CHECK(clients->failures() == 0);
    const int status = co_await c->stop();
    CHECK(status == 0);
  }
}

ASYNC_TEST("an inherited unix socket is served under every distribution, and its file stays") {
  const directory scratch;
  const auto path = scratch / "app.sock";
  auto kept = open_unix_listener(local_at("unix:" + path), 8);
  for (const auto how : distributions) {
    auto options = any_options(how, 2);
    const auto number = std::to_string(system::call.duplicate(kept.socket.get(), 3));
    options.listen = {"fd:" + number};
    auto c = co_await running::ready(options);
    CHECK(c->last(event_kind::listening).text == "unix:" + path);
    const auto answer = co_await ask_once(local_at("unix:" + path), "echo activated");
    CHECK(answer == "activated");
    const int status = co_await c->stop();
    CHECK(status == 0);
    CHECK(exists(path));
    local_client waits = co_await local_client::connect(local_at("unix:" + path));  // not refused
    const descriptor accepted(::accept4(kept.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
    CHECK(accepted);
  }
}

PLAIN_TEST("an inherited socket that cannot be served is an error that says why, and no other descriptor is touched") {
  const auto failure = [](const std::string& text, distribution how = distribution::round_robin) {
    cluster_options options;
    options.listen = {text};
    options.workers = 2;
    options.distribution = how;
    return failure_of([&] { open_listeners(options); });
  };
  const kept_listener kept;
  const descriptor udp(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const descriptor tcp(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto named = [](const descriptor& which) { return "fd:" + std::to_string(which.get()); };
  const auto number = [](const descriptor& which) { return std::to_string(which.get()); };

  CHECK(failure(named(udp)) == "listen " + named(udp) + ": fd " + number(udp) +
                                   " is a udp socket, want a listening socket: the handle is of another kind");
  CHECK(failure(named(tcp)) == "listen " + named(tcp) + ": fd " + number(tcp) +
                                   " is a tcp socket, want a listening socket: the handle is of another kind");
  for (const auto* text : {"fd:", "fd:http", "fd:0", "fd:2", "fd:-1", "fd:9999", "fd:3x", "fd:99999999999"}) {
    CHECK(failure(text) == "listen " + std::string(text) + ": no such socket was inherited: invalid option");
  }
  const auto lent = kept.lend();
  CHECK(failure(lent, distribution::reuse_port) ==
        "listen " + lent + ": 1 inherited for " + to_string(kept.at) +
            ", and reuse_port wants one for each of 2 workers: invalid option");
  CHECK(failure(lent) == "listen " + lent + ": no such socket was inherited: invalid option");  // it was closed

  const auto twice = kept.lend();
  cluster_options options;
  options.listen = {twice, twice};
  CHECK(failure_of([&] { open_listeners(options); }) == "listen " + twice + ": listed twice: invalid option");
}

}  // namespace
}  // namespace cohort::test::open_listeners_test
