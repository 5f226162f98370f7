// SPDX-License-Identifier: BSL-1.0
// The distributor that accepts in the primary, with workers that have no process: the test has the other end of each
// worker's channel.
#include "../../../include/cohort/cluster/distribution/handoff.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>

#include "../../../include/cohort/net/endpoint.hpp"
#include "../../support/fault.hpp"
#include "../../worker/client.hpp"

namespace cohort::test::handoff_test {
namespace {

constexpr std::uint32_t number = 7;

class fake_worker {
 public:
  using far_end = channel<worker_protocol::to_parent, worker_protocol::to_child>;
  using near_end = channel<worker_protocol::to_child, worker_protocol::to_parent>;

  fake_worker(const asio::any_io_executor& executor, unsigned slot)
      : fake_worker(executor, slot, make_channel_pair()) {}

  /// Takes the next socket; what its client has said.
  asio::awaitable<std::string> take() {
    const auto got = co_await there.receive_handle();
    if (!got) co_return "(end)";
    const auto* order = std::get_if<worker_protocol::serve>(&got->message);
    CHECK(order != nullptr);
    if (order != nullptr) CHECK(order->listener == number);
    char text[64];
    const auto size = ::recv(got->handle.native_handle(), text, sizeof text, MSG_DONTWAIT);
    co_return size > 0 ? std::string(text, static_cast<std::size_t>(size - 1)) : "(nothing)";
  }

  std::shared_ptr<worker_process> who;
  far_end there;

 private:
  fake_worker(const asio::any_io_executor& executor, unsigned slot, std::pair<descriptor, descriptor> ends)
      : who(std::make_shared<worker_process>(executor, slot)), there(executor, std::move(ends.second)) {
    who->peer = peer<worker_protocol>(child(), near_end(executor, std::move(ends.first)));
    who->enter(worker_state::starting);
    who->enter(worker_state::ready);
  }
};

/// A listener on a port of the kernel's choice, its distributor, and clients.
class scene {
 public:
  explicit scene(const asio::any_io_executor& executor, std::size_t max_open = 0)
      : at(parse_endpoint("127.0.0.1:0")),
        distributor(executor, open_listener(at, listen_settings()), number, pick_in_turn(), max_open,
                    [this](std::exception_ptr why) { failures.push_back(why); }) {}

  /// Connects one more client, which says its number.
  asio::awaitable<void> connect() {
    clients.push_back(co_await client::connect(at));
    clients.back().say(std::to_string(clients.size()));
  }

  asio::awaitable<void> end() {
    distributor.cancel();
    co_await distributor.stop();
  }

  asio::ip::tcp::endpoint at;
  std::vector<std::exception_ptr> failures;
  handoff_distributor distributor;
  std::vector<client> clients;
};

}  // namespace

ASYNC_TEST("connections go to the workers in turn, in their order") {
  const auto executor = co_await asio::this_coro::executor;
  scene s(executor);
  fake_worker one(executor, 1), two(executor, 2);
  s.distributor.join(one.who);
  s.distributor.join(two.who);
  for (int i = 0; i < 4; ++i) co_await s.connect();
  for (const char* const expected : {"1", "3"}) {
    const auto said = co_await one.take();
    CHECK(said == expected);
  }
  for (const char* const expected : {"2", "4"}) {
    const auto said = co_await two.take();
    CHECK(said == expected);
  }
  CHECK(one.who->figures.leased == 2);
  CHECK(two.who->figures.leased == 2);
  co_await s.end();
  CHECK(s.failures.empty());
}

ASYNC_TEST("a worker that dies before it takes a socket gives it back, and another one gets it") {
  const auto executor = co_await asio::this_coro::executor;
  scene s(executor);
  fake_worker one(executor, 1), two(executor, 2);
  s.distributor.join(one.who);
  s.distributor.join(two.who);
  co_await s.connect();
  const bool given = co_await eventually([&] { return one.who->figures.leased == 1; });
  CHECK(given);
  one.there.close();
  const auto said = co_await two.take();
  CHECK(said == "1");
  CHECK(one.who->figures.leased == 0);
  CHECK(two.who->figures.leased == 1);
  s.distributor.leave(one.who);
  co_await s.end();
}

ASYNC_TEST("of sockets that came together, those that a worker has not taken when it dies go to another one") {
  const auto executor = co_await asio::this_coro::executor;
  scene s(executor);
  fake_worker one(executor, 1), two(executor, 2);
  for (int i = 0; i < 4; ++i) co_await s.connect();  // which waits in the kernel
  s.distributor.join(one.who);
  s.distributor.join(two.who);
  const auto taken = co_await one.take();
  CHECK(taken == "1");
  CHECK(one.who->figures.leased == 2);
  co_await one.there.flush();
  one.there.close();
  std::vector<std::string> said;
  for (int i = 0; i < 3; ++i) {
    auto each = co_await two.take();
    said.push_back(std::move(each));
  }
  std::sort(said.begin(), said.end());
  CHECK(said == std::vector<std::string>{"2", "3", "4"});
  CHECK(one.who->figures.leased == 1);
  CHECK(two.who->figures.leased == 3);
  co_await s.end();
}

ASYNC_TEST("sockets whose worker has no channel any more go to another one") {
  const auto executor = co_await asio::this_coro::executor;
  scene s(executor);
  fake_worker one(executor, 1), two(executor, 2);
  co_await s.connect();
  s.distributor.join(one.who);
  s.distributor.join(two.who);
  one.who->peer = peer<worker_protocol>();
  const auto said = co_await two.take();
  CHECK(said == "1");
  co_await s.end();
  CHECK(s.failures.empty());
}

ASYNC_TEST("a worker that refuses sockets leaves them to another one") {
  const auto executor = co_await asio::this_coro::executor;
  scene s(executor);
  fake_worker one(executor, 1), two(executor, 2);
  s.distributor.join(one.who);
  s.distributor.join(two.who);
  one.there.decline_handles();
  const auto read = [&]() -> asio::awaitable<void> { co_await one.there.receive(); };
  asio::co_spawn(executor, read(), asio::detached);  // it refuses what it reads
  std::vector<std::string> said;
  for (int i = 0; i < 4; ++i) co_await s.connect();
  for (int i = 0; i < 4; ++i) {
    auto each = co_await two.take();
    said.push_back(std::move(each));
  }
  std::sort(said.begin(), said.end());
  CHECK(said == std::vector<std::string>{"1", "2", "3", "4"});
  co_await s.end();
}

ASYNC_TEST("without a worker nothing is accepted, and what waits goes to the first one that comes") {
  const auto executor = co_await asio::this_coro::executor;
  scene s(executor);
  const intercept<&system::calls::accept4> accepted(
      [](auto real, int fd, sockaddr* address, socklen_t* size, int flags) { return real(fd, address, size, flags); });
  co_await s.connect();
  co_await yield(50);
  CHECK(accepted.calls() == 0);
  fake_worker one(executor, 1);
  s.distributor.join(one.who);
  const auto said = co_await one.take();
  CHECK(said == "1");
  CHECK(accepted.calls() > 0);
  co_await s.end();
}

ASYNC_TEST("a worker that does not answer holds up its window of sockets, and no more") {
  constexpr std::size_t window = 32;
  const auto executor = co_await asio::this_coro::executor;
  scene s(executor);
  fake_worker hangs(executor, 1), other(executor, 2);
  s.distributor.join(hangs.who);
  for (std::size_t i = 0; i < window + 3; ++i) co_await s.connect();
  const bool full = co_await eventually([&] { return hangs.who->figures.leased == window; });
  CHECK(full);
  s.distributor.join(other.who);
  for (const char* const expected : {"33", "34", "35"}) {
    const auto said = co_await other.take();
    CHECK(said == expected);
  }
  CHECK(hangs.who->figures.leased == window);
  hangs.there.close();
  std::vector<std::string> rest;
  for (std::size_t i = 0; i < window; ++i) {
    auto each = co_await other.take();
    rest.push_back(std::move(each));
  }
  std::sort(rest.begin(), rest.end());
  CHECK(std::unique(rest.begin(), rest.end()) == rest.end());
  CHECK(hangs.who->figures.leased == 0);
  co_await s.end();
}

ASYNC_TEST("a worker with as many connections as it may have gets the next one when one of them has ended") {
  const auto executor = co_await asio::this_coro::executor;
  scene s(executor, 1);
  fake_worker one(executor, 1);
  s.distributor.join(one.who);
  const auto word = co_await one.there.receive();
  REQUIRE(word);
  CHECK(std::holds_alternative<worker_protocol::count_connections>(*word));
  co_await s.connect();
  co_await s.connect();
  auto said = co_await one.take();
  CHECK(said == "1");
  co_await yield(50);
  CHECK(one.who->figures.leased == 1);
  one.who->figures.ended = 1;
  s.distributor.on_ended();
  said = co_await one.take();
  CHECK(said == "2");
  CHECK(one.who->figures.leased == 2);
  co_await s.end();
}

ASYNC_TEST("a stop gives away what waits in the kernel's queue, and what comes later is refused") {
  const auto executor = co_await asio::this_coro::executor;
  scene s(executor);
  for (int i = 0; i < 3; ++i) co_await s.connect();
  bool stopped = false;
  asio::co_spawn(executor, s.distributor.stop(), [&](std::exception_ptr thrown) { stopped = !thrown; });
  fake_worker one(executor, 1);
  s.distributor.join(one.who);
  for (const char* const expected : {"1", "2", "3"}) {
    const auto said = co_await one.take();
    CHECK(said == expected);
  }
  const bool ended = co_await eventually([&] { return stopped; });
  CHECK(ended);
  CHECK(s.distributor.sockets().empty());
  const auto late = co_await ask_once(s.at, "echo");
  CHECK(late == "(refused)");
}

ASYNC_TEST("a listener that is somebody else's, too, is left with what waits in it") {
  const auto executor = co_await asio::this_coro::executor;
  auto at = parse_endpoint("127.0.0.1:0");
  const descriptor kept = open_listener(at, listen_settings());
  descriptor copy(::fcntl(kept.get(), F_DUPFD_CLOEXEC, 3));
  handoff_distributor distributor(
      executor, std::move(copy), number, pick_in_turn(), 0, [](std::exception_ptr) {}, queue_owner::others);
  auto one = co_await client::connect(at);
  co_await distributor.stop();
  acceptor successor(executor, descriptor(::fcntl(kept.get(), F_DUPFD_CLOEXEC, 3)));
  CHECK(successor.try_accept());
}

ASYNC_TEST("a listener that breaks is told once") {
  const auto executor = co_await asio::this_coro::executor;
  scene s(executor);
  fake_worker one(executor, 1);
  {
    const fault<&system::calls::accept4> broken(EINVAL, 1, every_time);
    s.distributor.join(one.who);
    co_await s.connect();
    const bool told = co_await eventually([&] { return !s.failures.empty(); });
    CHECK(told);
  }
  REQUIRE(s.failures.size() == 1);
  CHECK_THROWS_AS(std::rethrow_exception(s.failures[0]), std::system_error);
  co_await s.end();
  CHECK(s.failures.size() == 1);
}

}  // namespace cohort::test::handoff_test
