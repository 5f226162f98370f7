// SPDX-License-Identifier: BSL-1.0
// run_worker() as a program, under a parent that is the test.
#include <cerrno>
#include <csignal>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "../../include/cohort/net/acceptor.hpp"
#include "../../include/cohort/net/endpoint.hpp"
#include "../../include/cohort/ipc/peer.hpp"
#include "../../include/cohort/worker/run_worker.hpp"
#include "../../include/cohort/worker/protocol.hpp"
#include "../process/children.hpp"
#include "client.hpp"

namespace cohort::test::run_worker_test {
namespace {

/// A worker process that accepts at an address.
struct served {
  peer<worker_protocol> process;
  descriptor socket;
  asio::ip::tcp::endpoint at;
};

asio::awaitable<served> serve(command program) {
  served result;
  result.process = co_await spawn<worker_protocol>(std::move(program));
  result.at = parse_endpoint("127.0.0.1:0");
  result.socket = open_listener(result.at, listen_settings());
  worker_protocol::listen listen;
  co_await result.process.send_handle(listen, result.socket);
  const auto first = co_await result.process.receive();
  REQUIRE(first);
  CHECK(std::holds_alternative<worker_protocol::ready>(*first));
  co_return result;
}

asio::awaitable<std::optional<worker_protocol::draining>> draining_word(peer<worker_protocol>& from) {
  auto message = co_await from.receive();
  if (!message) co_return std::nullopt;
  co_return std::get<worker_protocol::draining>(*message);
}

ASYNC_TEST("a worker without a parent says so and exits with 1") {
  auto lonely = co_await spawn(helper("worker").err(stdio::pipe));
  const auto text = co_await lonely.err().read_all();
  CHECK(text == "worker: parent: COHORT_CHANNEL_FD is not set: not started with a channel\n");
  const auto status = co_await lonely.wait();
  CHECK(status == exit_status::exited(1));
}

ASYNC_TEST("a worker program that its parent asks to drain exits with 0") {
  auto one = co_await serve(helper("worker"));
  const auto answer = co_await ask_once(one.at, "pid");
  CHECK(answer == std::to_string(one.process.pid()) + " 0");
  one.process.post(worker_protocol::drain());
  const auto word = co_await draining_word(one.process);
  REQUIRE(word);
  CHECK(word->reason == "asked by the parent");
  const auto status = co_await one.process.wait();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("a worker program exits with 0 for SIGTERM, and finishes what it has begun") {
  auto one = co_await serve(helper("worker"));
  auto busy = co_await client::connect(one.at);
  const auto begun = co_await busy.ask("hold");
  CHECK(begun == "holding");
  one.process.signal(SIGTERM);
  const auto word = co_await draining_word(one.process);
  REQUIRE(word);
  CHECK(word->reason == "SIGTERM");
  const auto answer = co_await busy.ask("go on");
  CHECK(answer == "hold done");
  const auto status = co_await one.process.wait();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("SIGINT is not a worker's business") {
  auto one = co_await serve(helper("worker"));
  for (int i = 0; i < 3; ++i) one.process.signal(SIGINT);
  const auto answer = co_await ask_once(one.at, "slow 20");
  CHECK(answer == "slow done");
  CHECK(one.process.process().running());
  one.process.post(worker_protocol::drain());
  const auto status = co_await one.process.wait();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("a worker program exits with 1 after a fatal error, once the others are served") {
  for (const auto* fatal : {"fatal", "odd"}) {
    auto one = co_await serve(helper("worker"));
    auto busy = co_await client::connect(one.at);
    const auto begun = co_await busy.ask("hold");
    CHECK(begun == "holding");
    const auto end = co_await ask_once(one.at, fatal);
    CHECK(end == client::closed);
    const auto word = co_await draining_word(one.process);
    REQUIRE(word);
    CHECK(word->status == 1);
    CHECK(one.process.process().running());
    const auto answer = co_await busy.ask("go on");
    CHECK(answer == "hold done");
    const auto status = co_await one.process.wait();
    CHECK(status == exit_status::exited(1));
  }
}

ASYNC_TEST("an exception that escapes elsewhere in a worker's loop is fatal too, and nobody loses an answer") {
  auto one = co_await serve(helper("worker-throwing-beside"));
  const auto answer = co_await ask_once(one.at, "slow 50");
  CHECK(answer == "slow done");
  const auto word = co_await draining_word(one.process);
  REQUIRE(word);
  CHECK(word->status == 1);
  CHECK(word->reason == "thrown beside");
  const auto status = co_await one.process.wait();
  CHECK(status == exit_status::exited(1));
}

ASYNC_TEST("a worker program whose parent has closed the channel answers what it has begun and exits with 110") {
  auto one = co_await serve(helper("worker"));
  auto busy = co_await client::connect(one.at);
  busy.say("slow 100");
  const auto other = co_await ask_once(one.at, "echo x");
  CHECK(other == "x");
  one.process.close();
  const auto answer = co_await busy.line();
  CHECK(answer == "slow done");
  const auto status = co_await one.process.wait();
  CHECK(status == exit_status::exited(110));
}

ASYNC_TEST("a worker program whose parent has gone before it came exits with 110") {
  auto one = co_await spawn<worker_protocol>(helper("worker"));
  one.close();
  const auto status = co_await one.wait();
  CHECK(status == exit_status::exited(110));
}

ASYNC_TEST("a worker program that is not to be restarted exits with 78, but with 1 if something fatal happens") {
  for (const auto* then : {"echo x", "fatal"}) {
    auto one = co_await serve(helper("worker", "grace=1000"));
    auto other = co_await client::connect(one.at);
    const auto first = co_await other.ask("echo x");
    CHECK(first == "x");
    const auto left = co_await ask_once(one.at, "leave");
    CHECK(left == "leave done");
    const auto word = co_await draining_word(one.process);
    REQUIRE(word);
    CHECK(word->status == 78);
    other.say(then);
    const auto status = co_await one.process.wait();
    CHECK(status == exit_status::exited(std::string(then) == "fatal" ? 1 : 78));
  }
}

ASYNC_TEST("a handler that ignores its cancellation does not keep the process") {
  auto one = co_await serve(helper("worker", "drain=20"));
  std::vector<client> stubborn;
  for (int i = 0; i < 3; ++i) {
    stubborn.push_back(co_await client::connect(one.at));
    stubborn.back().say("stubborn 600000");
  }
  auto idle = co_await client::connect(one.at);
  const auto answer = co_await idle.ask("echo x");
  CHECK(answer == "x");
  one.process.post(worker_protocol::drain());
  for (auto& each : stubborn) {
    const auto end = co_await each.line();
    CHECK((end == client::closed || end == client::reset));
  }
  const auto status = co_await one.process.wait();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("a worker program that is killed is told by its status, and the parent's listener lives on") {
  for (const int signal : {SIGKILL, SIGABRT}) {
    auto one = co_await serve(helper("worker"));
    auto busy = co_await client::connect(one.at);
    busy.say("slow 60000");
    const auto other = co_await ask_once(one.at, "echo x");
    CHECK(other == "x");
    if (signal == SIGABRT) {
      const auto end = co_await ask_once(one.at, "abort");
      CHECK((end == client::closed || end == client::reset));
    } else {
      one.process.signal(SIGKILL);
    }
    const auto word = co_await draining_word(one.process);
    CHECK_FALSE(word);
    const auto status = co_await one.process.wait();
    CHECK(status.signal() == signal);
    const auto cut = co_await busy.line();
    CHECK((cut == client::closed || cut == client::reset));
    auto waiting = co_await client::connect(one.at);
    waiting.say("echo successor");
    auto next = co_await spawn<worker_protocol>(helper("worker"));
    worker_protocol::listen listen;
    co_await next.send_handle(listen, one.socket);
    const auto answer = co_await waiting.line();
    CHECK(answer == "successor");
  }
}

ASYNC_TEST("a worker program with a full descriptor table goes on when there is room") {
  if (sanitized) co_return;  // UBSan's check of virtual calls needs descriptors itself
  auto one = co_await serve(helper("worker", "descriptors=40"));
  auto first = co_await client::connect(one.at);
  const auto filled = co_await first.ask("fill-descriptors");
  CHECK(filled == "fill-descriptors done");
  std::vector<client> waiting;
  for (int i = 0; i < 10; ++i) {
    waiting.push_back(co_await client::connect(one.at));
    waiting.back().say("echo at last");
  }
  const auto still = co_await first.ask("echo still");
  CHECK(still == "still");
  worker_protocol::serve serve;
  descriptor extra;
  {
    asio::ip::tcp::endpoint at = parse_endpoint("127.0.0.1:0");
    acceptor on(co_await asio::this_coro::executor, open_listener(at, listen_settings()));
    waiting.push_back(co_await client::connect(at));
    extra = on.try_accept();
  }
  const auto lost = co_await error_of(one.process.send_handle(serve, std::move(extra)));
  CHECK(lost == errc::handle_lost);
  CHECK(extra);
  waiting.pop_back();
  for (auto& each : waiting) {
    const auto answer = co_await each.line();
    CHECK(answer == "at last");
    each.close();
  }
  one.process.post(worker_protocol::drain());
  const auto status = co_await one.process.wait();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("a worker program whose descriptors do not come back serves one client after the other") {
  if (sanitized) co_return;  // UBSan's check of virtual calls needs descriptors itself
  auto one = co_await serve(helper("worker", "descriptors=40"));
  auto first = co_await client::connect(one.at);
  const auto leaked = co_await first.ask("leak-descriptors");
  CHECK(leaked == "leak-descriptors done");
  std::vector<client> waiting;
  for (int i = 0; i < 3; ++i) {
    waiting.push_back(co_await client::connect(one.at));
    waiting.back().say("echo " + std::to_string(i));
  }
  for (int i = 0; i < 3; ++i) {
    auto& each = waiting[static_cast<std::size_t>(i)];
    const auto answer = co_await each.line();
    CHECK(answer == std::to_string(i));
    const auto still = co_await first.ask("echo still");
    CHECK(still == "still");
    each.close();
  }
  one.process.post(worker_protocol::drain());
  const auto status = co_await one.process.wait();
  CHECK(status == exit_status::exited(0));
}

}  // namespace
}  // namespace cohort::test::run_worker_test
