// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/worker/worker.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../include/cohort/core/timeout.hpp"
#include "../../include/cohort/ipc/channel_pair.hpp"
#include "../../include/cohort/net/acceptor.hpp"
#include "../../include/cohort/net/endpoint.hpp"
#include "../../include/cohort/worker/connection_handler.hpp"
#include "../../include/cohort/worker/options.hpp"
#include "../../include/cohort/worker/parent_channel.hpp"
#include "../support/fault.hpp"
#include "../verbs/line_server.hpp"
#include "client.hpp"

namespace cohort::test::worker_test {
namespace {

using control_channel = channel<worker_protocol::to_child, worker_protocol::to_parent>;

worker_options quick() {
  worker_options options;
  options.idle_grace = 20ms;
  return options;
}

/// A listener on a port of the kernel's choice, which `at` has afterwards.
descriptor open_local(asio::ip::tcp::endpoint& at) {
  at = parse_endpoint("127.0.0.1:0");
  return open_listener(at, listen_settings());
}

/// A worker in this process, the parent's end of its channel, and what comes of it. Ends before the test does.
class scene : public std::enable_shared_from_this<scene> {
 public:
  scene(const asio::any_io_executor& executor, connection_handler handler, const worker_options& options)
      : scene(executor, make_channel_pair(), std::move(handler), options) {}

  /// Starts run().
  static std::shared_ptr<scene> start(const asio::any_io_executor& executor, connection_handler handler = &serve_lines,
                                      const worker_options& options = quick()) {
    auto self = std::make_shared<scene>(executor, std::move(handler), options);
    self->run();
    return self;
  }

  void run() {
    asio::co_spawn(parent.get_executor(), self->run(),
                   [me = shared_from_this()](std::exception_ptr thrown, int returned) {
                     me->self.reset();  // at once: nothing of it may be left running
                     me->failure = thrown;
                     me->status = returned;
                   });
  }

  /// Has the worker accept at `at`, and returns the parent's copy of the listener.
  asio::awaitable<descriptor> listen(asio::ip::tcp::endpoint& at, std::uint32_t grant = 1) {
    descriptor socket = open_local(at);
    co_await lend(socket, grant);
    co_return socket;
  }

  asio::awaitable<void> lend(const descriptor& socket, std::uint32_t grant = 1) {
    worker_protocol::listen message;
    message.grant = grant;
    co_await parent.send_handle(message, socket);
  }

  /// The first word that is not `ready`.
  asio::awaitable<std::optional<worker_protocol::draining>> draining_word() {
    while (auto message = co_await parent.receive()) {
      if (const auto* word = std::get_if<worker_protocol::draining>(&*message)) co_return *word;
    }
    co_return std::nullopt;
  }

  void ask_to_drain(bool empty_queues = false) {
    worker_protocol::drain order;
    order.empty_queues = empty_queues;
    parent.post(order);
  }

  /// Waits until the worker has heard all that it was told so far: it answers a ping, which comes behind that.
  asio::awaitable<void> heard_all() {
    worker_protocol::ping question;
    question.number = ++pings_;
    parent.post(question);
    while (auto message = co_await parent.receive()) {
      const auto* answer = std::get_if<worker_protocol::pong>(&*message);
      if (answer != nullptr && answer->number == pings_) co_return;
    }
    FAIL("the worker does not answer");
  }

  /// What run() has returned.
  asio::awaitable<int> ended() {
    const bool done = co_await eventually([this] { return self == nullptr; });
    CHECK(done);
    if (failure) std::rethrow_exception(failure);
    co_return status;
  }

  control_channel parent;
  std::unique_ptr<worker> self;
  std::exception_ptr failure;
  int status = -1;

 private:
  scene(const asio::any_io_executor& executor, std::pair<descriptor, descriptor> ends, connection_handler handler,
        const worker_options& options)
      : parent(executor, std::move(ends.first)),
        self(std::make_unique<worker>(executor, parent_channel(executor, std::move(ends.second)), std::move(handler),
                                      options)) {}

  std::uint64_t pings_ = 0;
};

ASYNC_TEST("a worker says that it is ready") {
  auto at = scene::start(co_await asio::this_coro::executor);
  const auto word = co_await at->parent.receive();
  REQUIRE(word);
  CHECK(std::holds_alternative<worker_protocol::ready>(*word));
  at->ask_to_drain();
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("a worker accepts on a listener that it is given, and serves") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  auto one = co_await client::connect(where);
  auto two = co_await client::connect(where);
  const auto first = co_await one.ask("echo first");
  CHECK(first == "first");
  const auto second = co_await two.ask("echo second");
  CHECK(second == "second");
  const auto again = co_await one.ask("echo again");
  CHECK(again == "again");
  CHECK(at->self->open_connections() == 2);
  one.close();
  const bool gone = co_await eventually([&] { return at->self->open_connections() == 1; });
  CHECK(gone);
  at->ask_to_drain();
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("a worker serves a socket that it is handed") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  const auto executor = co_await asio::this_coro::executor;
  acceptor on(executor, open_local(where));
  auto one = co_await client::connect(where);
  worker_protocol::serve message;
  co_await at->parent.send_handle(message, on.try_accept());
  const auto answer = co_await one.ask("echo handed");
  CHECK(answer == "handed");
  at->ask_to_drain();
  const int status = co_await at->ended();
  CHECK(status == 0);
}

/// A lease whose worker cannot say that it has taken the socket, as with a parent that is stopped.
class unheard_lease {
 public:
  unheard_lease(scene& s, descriptor given)
      : socket(std::move(given)),
        of_(s),
        parent_(s.parent.native_handle()),
        sends_([this](auto real, int fd, const msghdr* message, int flags) -> ssize_t {
          if (!full || fd == parent_) return real(fd, message, flags);
          errno = EAGAIN;
          return -1;
        }) {}

  asio::awaitable<void> give() {
    worker_protocol::serve message;
    outcome = co_await error_of(of_.parent.send_handle(message, std::move(socket)));
  }

  /// Gives it, and waits until the worker has it.
  asio::awaitable<void> begin() {
    asio::co_spawn(of_.parent.get_executor(), give(), asio::detached);
    const bool taken = co_await eventually([this] { return of_.self->open_connections() == 1; });
    CHECK(taken);
    co_await yield(20);
    CHECK_FALSE(outcome);
    CHECK(unread());
  }

  /// Whether the client's request waits in the parent's copy of the socket.
  bool unread() const {
    char byte = 0;
    return ::recv(socket.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
  }

  bool full = true;
  descriptor socket;
  std::optional<std::error_code> outcome;

 private:
  scene& of_;
  int parent_;
  intercept<&system::calls::sendmsg> sends_;
};

ASYNC_TEST("a socket that is handed is served when the parent is sure to hear that it was taken") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  acceptor on(co_await asio::this_coro::executor, open_local(where));
  auto one = co_await client::connect(where);
  one.say("echo handed");
  unheard_lease lease(*at, on.try_accept());
  co_await lease.begin();
  lease.full = false;
  const auto answer = co_await one.line();
  CHECK(answer == "handed");
  const bool heard = co_await eventually([&] { return lease.outcome.has_value(); });
  CHECK(heard);
  CHECK_FALSE(*lease.outcome);
  at->ask_to_drain();
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("a worker that ends before it could say that it has taken a socket leaves it to the parent as it was") {
  auto options = quick();
  options.drain_timeout = 20ms;
  auto at = scene::start(co_await asio::this_coro::executor, &serve_lines, options);
  asio::ip::tcp::endpoint where;
  acceptor on(co_await asio::this_coro::executor, open_local(where));
  auto one = co_await client::connect(where);
  one.say("echo handed");
  unheard_lease lease(*at, on.try_accept());
  co_await lease.begin();
  at->ask_to_drain();
  const int status = co_await at->ended();
  CHECK(status == 0);
  const bool over = co_await eventually([&] { return lease.outcome.has_value(); });
  CHECK(over);
  CHECK(*lease.outcome == errc::peer_closed);
  REQUIRE(lease.socket);
  CHECK(lease.unread());
}

ASYNC_TEST("a socket that was taken is served although the parent dies before it can hear of it") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  acceptor on(co_await asio::this_coro::executor, open_local(where));
  auto one = co_await client::connect(where);
  one.say("echo handed");
  unheard_lease lease(*at, on.try_accept());
  co_await lease.begin();
  lease.full = false;  // a full socket without a reader is broken, and says so
  at->parent.close();
  const bool over = co_await eventually([&] { return lease.outcome.has_value(); });
  CHECK(over);
  lease.socket.reset();
  const auto answer = co_await one.line();
  CHECK(answer == "handed");
  const int status = co_await at->ended();
  CHECK(status == 110);
}

ASYNC_TEST("a worker that the parent asks to drain says so, accepts no more and ends with 0") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  descriptor mine = co_await at->listen(where);
  at->ask_to_drain();
  const auto word = co_await at->draining_word();
  REQUIRE(word);
  CHECK(word->status == 0);
  CHECK(word->reason == "asked by the parent");
  mine.reset();
  const auto refused = co_await ask_once(where, "echo");
  CHECK(refused == "(refused)");
  const auto figures = co_await at->parent.receive();  // its last word is what it has served
  REQUIRE(figures);
  REQUIRE(std::holds_alternative<worker_protocol::pong>(*figures));
  CHECK(std::get<worker_protocol::pong>(*figures).served == 0);
  const auto end = co_await at->parent.receive();
  CHECK_FALSE(end);
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("a worker tells what it has counted, where that has changed") {
  auto at = scene::start(co_await asio::this_coro::executor);
  const auto told = [&](std::uint64_t ping) -> asio::awaitable<std::string> {
    std::string result;
    if (ping != 0) at->parent.post(worker_protocol::ping{ping});
    while (const auto message = co_await at->parent.receive()) {
      if (const auto* word = std::get_if<worker_protocol::counted>(&*message)) {
        result += word->name + ' ' + std::to_string(word->value) + ' ';
      }
      if (ping != 0 && std::holds_alternative<worker_protocol::pong>(*message)) break;
    }
    co_return result;
  };
  counter& orders = at->self->counter("orders");
  at->self->counter("bytes_out");
  auto text = co_await told(1);
  CHECK(text == "bytes_out 0 orders 0 ");
  orders.add();
  at->self->counter("orders").add(2);
  CHECK(orders.value() == 3);
  text = co_await told(2);
  CHECK(text == "orders 3 ");
  text = co_await told(3);
  CHECK(text == "");
  orders.add();
  at->ask_to_drain();
  text = co_await told(0);
  CHECK(text == "orders 4 ");
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("a worker tells an older primary nothing that it does not know") {
  const auto executor = co_await asio::this_coro::executor;
  using older = std::variant<worker_protocol::ready, worker_protocol::draining, worker_protocol::pong>;
  auto ends = make_channel_pair();
  channel<worker_protocol::to_child, older> parent(executor, std::move(ends.first));
  worker self(executor, parent_channel(executor, std::move(ends.second)), &serve_lines, quick());
  self.counter("orders").add();
  std::optional<int> status;
  asio::co_spawn(executor, self.run(), [&](std::exception_ptr failure, int returned) {
    if (!failure) status = returned;
  });
  parent.post(worker_protocol::ping{1});
  parent.post(worker_protocol::drain());
  std::size_t pongs = 0;
  while (const auto message = co_await parent.receive()) {  // throws for what it does not know
    pongs += std::holds_alternative<worker_protocol::pong>(*message) ? 1 : 0;
  }
  CHECK(pongs == 2);
  const bool ended = co_await eventually([&] { return status.has_value(); });
  CHECK(ended);
  CHECK(status == 0);
}

ASYNC_TEST("SIGTERM makes a worker drain, and it ends with 0") {
  auto at = scene::start(co_await asio::this_coro::executor);
  ::raise(SIGTERM);
  const auto word = co_await at->draining_word();
  REQUIRE(word);
  CHECK(word->status == 0);
  CHECK(word->reason == "SIGTERM");
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("an exception that escapes a handler makes a worker drain, and it ends with 1") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  const auto answer = co_await ask_once(where, "fatal");
  CHECK(answer == client::closed);
  const auto word = co_await at->draining_word();
  REQUIRE(word);
  CHECK(word->status == 1);
  CHECK(word->reason == "a fatal request");
  const int status = co_await at->ended();
  CHECK(status == 1);
}

ASYNC_TEST("an exception of any type is fatal") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  const auto answer = co_await ask_once(where, "odd");
  CHECK(answer == client::closed);
  const auto word = co_await at->draining_word();
  REQUIRE(word);
  CHECK(word->status == 1);
  CHECK(word->reason == "an exception that is no std::exception");
  const int status = co_await at->ended();
  CHECK(status == 1);
}

ASYNC_TEST("a system_error that is not the connection's own is fatal") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  const auto answer = co_await ask_once(where, "code " + std::to_string(ENOSPC));
  CHECK(answer == client::closed);
  const auto word = co_await at->draining_word();
  REQUIRE(word);
  CHECK(word->reason == "request: No space left on device");
  const int status = co_await at->ended();
  CHECK(status == 1);
}

ASYNC_TEST("a connection's own errors end that connection alone") {
  const std::vector<std::error_code> theirs = {
      detail::asio_error(asio::error::eof),
      operation_aborted(),
      detail::asio_error(asio::error::connection_reset),
      detail::asio_error(asio::error::broken_pipe),
      make_error_code(errc::timed_out),
      make_error_code(errc::bad_proxy_header),
      std::error_code(ECONNRESET, std::system_category()),
      std::error_code(ECONNABORTED, std::system_category()),
      std::error_code(EPIPE, std::system_category()),
      std::error_code(ENOTCONN, std::system_category()),
      std::error_code(ETIMEDOUT, std::system_category()),
      std::error_code(EHOSTUNREACH, std::system_category()),
      std::error_code(ENOBUFS, asio::error::get_system_category()),
      std::error_code(ENOMEM, std::system_category()),
      std::error_code(EINTR, std::system_category()),
      std::make_error_code(std::errc::connection_reset),
  };
  std::size_t next = 0;
  const connection_handler handler = [&](asio::ip::tcp::socket, worker&) -> asio::awaitable<void> {
    co_await yield();
    throw std::system_error(theirs.at(next++), "connection");
  };
  auto at = scene::start(co_await asio::this_coro::executor, handler);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  for (std::size_t i = 0; i < theirs.size(); ++i) {
    const auto answer = co_await ask_once(where, "echo");
    CHECK((answer == client::closed || answer == client::reset));
  }
  CHECK(next == theirs.size());
  REQUIRE(at->self);
  CHECK_FALSE(at->self->draining());
  at->ask_to_drain();
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("a client that goes in the middle of a request harms nobody else") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  auto other = co_await client::connect(where);
  for (int i = 0; i < 5; ++i) {
    auto one = co_await client::connect(where);
    one.say("slow 5");
    const auto answer = co_await other.ask("echo still here");
    CHECK(answer == "still here");
    one.close_hard();
    auto two = co_await client::connect(where);
    two.close();
    auto three = co_await client::connect(where);
    three.close_hard();
  }
  const bool alone = co_await eventually([&] { return at->self && at->self->open_connections() == 1; });
  CHECK(alone);
  CHECK_FALSE(at->self->draining());
  at->ask_to_drain();
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("a handler that throws before it is a coroutine ends no more than its connection") {
  int called = 0;
  const connection_handler handler = [&](asio::ip::tcp::socket socket, worker& self) -> asio::awaitable<void> {
    // as socket.remote_endpoint() does when the client is gone already
    if (++called % 2 == 1) throw std::system_error(ENOTCONN, std::system_category(), "getpeername");
    return serve_lines(std::move(socket), self);
  };
  auto at = scene::start(co_await asio::this_coro::executor, handler);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  for (int i = 0; i < 2; ++i) {
    const auto thrown = co_await ask_once(where, "echo");
    CHECK((thrown == client::closed || thrown == client::reset));
    const auto answer = co_await ask_once(where, "echo accepting goes on");
    CHECK(answer == "accepting goes on");
  }
  const auto executor = co_await asio::this_coro::executor;
  acceptor on(executor, open_local(where));
  worker_protocol::serve message;
  for (int i = 0; i < 2; ++i) {
    auto one = co_await client::connect(where);
    co_await at->parent.send_handle(message, on.try_accept());
    auto two = co_await client::connect(where);
    co_await at->parent.send_handle(message, on.try_accept());
    const auto answer = co_await two.ask("echo taking goes on");
    CHECK(answer == "taking goes on");
  }
  REQUIRE(at->self);
  CHECK_FALSE(at->self->draining());
  at->ask_to_drain();
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("a handler that throws something fatal before it is a coroutine is fatal") {
  const connection_handler handler = [](asio::ip::tcp::socket, worker&) -> asio::awaitable<void> {
    throw std::logic_error("no handler");
  };
  auto at = scene::start(co_await asio::this_coro::executor, handler);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  auto one = co_await client::connect(where);
  const auto word = co_await at->draining_word();
  REQUIRE(word);
  CHECK(word->reason == "no handler");
  const int status = co_await at->ended();
  CHECK(status == 1);
}

ASYNC_TEST("a worker whose parent is gone drains and ends with 110") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  auto busy = co_await client::connect(where);
  const auto begun = co_await busy.ask("hold");
  CHECK(begun == "holding");
  at->parent.close();
  const bool draining = co_await eventually([&] { return at->self && at->self->draining(); });
  CHECK(draining);
  const auto answer = co_await busy.ask("go on");
  CHECK(answer == "hold done");
  const int status = co_await at->ended();
  CHECK(status == 110);
}

ASYNC_TEST("a worker whose parent disconnects is orphaned as well") {
  auto at = scene::start(co_await asio::this_coro::executor);
  co_await at->parent.disconnect();
  const int status = co_await at->ended();
  CHECK(status == 110);
}

ASYNC_TEST("a worker whose parent was gone before it began ends with 110") {
  for (const int turns : {0, 1, 3}) {
    auto at = std::make_shared<scene>(co_await asio::this_coro::executor, &serve_lines, quick());
    at->parent.close();
    co_await yield(turns);
    at->run();
    const int status = co_await at->ended();
    CHECK(status == 110);
  }
}

ASYNC_TEST("a parent that talks nonsense is a fatal error") {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  worker self(executor, {executor, std::move(ends.second)}, &serve_lines, quick());
  const char nonsense[] = "GET / HTTP/1.1\r\n\r\n";
  REQUIRE(::send(ends.first.get(), nonsense, sizeof nonsense, 0) > 0);
  const int status = co_await self.run();
  CHECK(status == 1);
}

ASYNC_TEST("a listener that is none is a fatal error") {
  auto at = scene::start(co_await asio::this_coro::executor);
  auto ends = make_channel_pair();
  co_await at->lend(ends.first);
  ends.second.reset();
  const auto word = co_await at->draining_word();
  REQUIRE(word);
  CHECK(word->reason.starts_with("accept: "));
  const int status = co_await at->ended();
  CHECK(status == 1);
}

ASYNC_TEST("a worker that is not to be restarted ends with 78, and says so first") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  const auto answer = co_await ask_once(where, "leave");
  CHECK(answer == "leave done");
  const auto word = co_await at->draining_word();
  REQUIRE(word);
  CHECK(word->status == 78);
  CHECK(word->reason == "a client wants no other");
  const int status = co_await at->ended();
  CHECK(status == 78);
}

ASYNC_TEST("the worst of several reasons decides the status, whichever comes first") {
  const auto executor = co_await asio::this_coro::executor;
  const std::vector<std::pair<std::vector<std::string>, int>> cases = {
      {{"drain", "leave"}, 78},  {{"leave", "drain"}, 78},   {{"drain", "fail"}, 1},    {{"fail", "drain", "leave"}, 1},
      {{"leave", "fail"}, 1},    {{"drain", "orphan"}, 0},   {{"leave", "orphan"}, 78}, {{"orphan", "fail"}, 1},
      {{"orphan", "leave"}, 78}, {{"orphan", "drain"}, 110},
  };
  for (const auto& each : cases) {
    bool go = false;
    const connection_handler handler = [&](asio::ip::tcp::socket, worker&) -> asio::awaitable<void> {
      while (!go) co_await sleep(1ms);
    };
    auto at = scene::start(executor, handler);
    asio::ip::tcp::endpoint where;
    const descriptor mine = co_await at->listen(where);
    auto busy = co_await client::connect(where);
    const bool serving = co_await eventually([&] { return at->self->open_connections() == 1; });
    CHECK(serving);
    for (const auto& reason : each.first) {
      REQUIRE(at->self);
      if (reason == "drain") at->self->drain(reason);
      if (reason == "leave") at->self->do_not_restart(reason);
      if (reason == "fail") at->self->fail(reason);
      if (reason == "orphan") at->parent.close();
      const bool draining = co_await eventually([&] { return at->self->draining(); });
      CHECK(draining);
      co_await yield(10);
    }
    go = true;
    const int status = co_await at->ended();
    CHECK(status == each.second);
  }
}

ASYNC_TEST("a fatal error during the drain decides the status") {
  auto at = scene::start(co_await asio::this_coro::executor, &serve_lines, [] {
    auto options = quick();
    options.idle_grace = 1s;
    return options;
  }());
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  auto one = co_await client::connect(where);
  const auto answer = co_await one.ask("echo x");
  CHECK(answer == "x");
  at->ask_to_drain();
  const auto word = co_await at->draining_word();
  REQUIRE(word);
  CHECK(word->status == 0);
  const auto thrown = co_await one.ask("fatal");
  CHECK(thrown == client::closed);
  const int status = co_await at->ended();
  CHECK(status == 1);
}

ASYNC_TEST("the parent hears of the drain before a busy connection has ended, which is served to its end") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  auto busy = co_await client::connect(where);
  busy.say("patient");
  auto slow = co_await client::connect(where);
  const auto begun = co_await slow.ask("hold");
  CHECK(begun == "holding");
  const bool serving = co_await eventually([&] { return at->self->open_connections() == 2; });
  CHECK(serving);
  co_await yield(5);
  const auto fatal = co_await ask_once(where, "fatal");
  CHECK(fatal == client::closed);
  const auto word = co_await at->draining_word();
  CHECK(word);
  REQUIRE(at->self);
  CHECK(at->self->draining());
  CHECK(at->self->open_connections() == 2);
  const auto answer = co_await slow.ask("go on");
  CHECK(answer == "hold done");
  CHECK(at->self);
  ::raise(SIGTERM);
  co_await sleep(1100ms);  // a second one within a second is the same wish
  ::raise(SIGTERM);
  const auto cancelled = co_await busy.line();
  CHECK(cancelled == "cancelled");
  const int status = co_await at->ended();
  CHECK(status == 1);
}

ASYNC_TEST("an idle connection is closed once the grace is over, and a request in time is answered") {
  auto options = quick();
  options.idle_grace = 1s;  // in which a busy machine has passed on two lines
  auto at = scene::start(co_await asio::this_coro::executor, &serve_lines, options);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  auto idle = co_await client::connect(where);
  auto late = co_await client::connect(where);
  const auto first = co_await idle.ask("echo 1");
  CHECK(first == "1");
  const auto second = co_await late.ask("echo 2");
  CHECK(second == "2");
  at->ask_to_drain();
  const auto word = co_await at->draining_word();
  CHECK(word);
  const auto answer = co_await late.ask("echo in time");
  CHECK(answer == "in time");
  const auto after = co_await late.line();
  CHECK(after == client::closed);
  const auto end = co_await idle.line();
  CHECK(end == client::closed);
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("readable is true when bytes are there, whatever becomes of the worker") {
  std::vector<bool> seen;
  const connection_handler handler = [&](asio::ip::tcp::socket socket, worker& self) -> asio::awaitable<void> {
    bool more = co_await self.readable(socket);  // before the drain
    seen.push_back(more);
    while (!self.draining()) co_await yield();
    more = co_await self.readable(socket);  // in the grace
    seen.push_back(more);
    co_await sleep(60ms);
    more = co_await self.readable(socket);  // after it
    seen.push_back(more);
    char bytes[16];
    co_await socket.async_read_some(asio::buffer(bytes), asio::use_awaitable);
    more = co_await self.readable(socket);  // nothing is left
    seen.push_back(more);
  };
  auto at = scene::start(co_await asio::this_coro::executor, handler);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  auto one = co_await client::connect(where);
  one.say("x");
  const bool begun = co_await eventually([&] { return !seen.empty(); });
  CHECK(begun);
  at->ask_to_drain();
  const int status = co_await at->ended();
  CHECK(status == 0);
  CHECK(seen == std::vector<bool>{true, true, true, false});
}

ASYNC_TEST("readable is true at the end of the stream") {
  std::optional<bool> seen;
  const connection_handler handler = [&](asio::ip::tcp::socket socket, worker& self) -> asio::awaitable<void> {
    seen = co_await self.readable(socket);
  };
  auto at = scene::start(co_await asio::this_coro::executor, handler);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  auto one = co_await client::connect(where);
  one.close();
  const bool ended = co_await eventually([&] { return seen.has_value(); });
  CHECK(ended);
  CHECK(seen == true);
  at->ask_to_drain();
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("readable can be given a limit, and cancelled at every moment") {
  int timed_out = 0, served = 0;
  const connection_handler handler = [&](asio::ip::tcp::socket socket, worker& self) -> asio::awaitable<void> {
    const auto code = co_await error_of(with_timeout(self.readable(socket), 1ms));
    timed_out += code == errc::timed_out;
    const bool more = co_await self.readable(socket);
    served += more;
  };
  auto at = scene::start(co_await asio::this_coro::executor, handler);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  auto one = co_await client::connect(where);
  const bool waited = co_await eventually([&] { return timed_out == 1; });
  CHECK(waited);
  one.say("x");
  const bool answered = co_await eventually([&] { return served == 1; });
  CHECK(answered);
  auto two = co_await client::connect(where);  // idle when the drain comes
  const bool waited_again = co_await eventually([&] { return timed_out == 2; });
  CHECK(waited_again);
  at->ask_to_drain();
  const int status = co_await at->ended();
  CHECK(status == 0);
  CHECK(served == 1);
}

ASYNC_TEST("what is busy at the deadline is cancelled") {
  auto options = quick();
  options.drain_timeout = 30ms;
  auto at = scene::start(co_await asio::this_coro::executor, &serve_lines, options);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  auto busy = co_await client::connect(where);
  busy.say("patient");
  const bool serving = co_await eventually([&] { return at->self->open_connections() == 1; });
  CHECK(serving);
  co_await yield(5);
  at->ask_to_drain();
  const auto answer = co_await busy.line();
  CHECK(answer == "cancelled");
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("a drain may wait for ever") {
  auto options = quick();
  options.drain_timeout = options.idle_grace = std::chrono::milliseconds::max();
  auto at = scene::start(co_await asio::this_coro::executor, &serve_lines, options);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  auto slow = co_await client::connect(where);
  const auto begun = co_await slow.ask("hold");
  CHECK(begun == "holding");
  auto idle = co_await client::connect(where);
  const bool serving = co_await eventually([&] { return at->self->open_connections() == 2; });
  CHECK(serving);
  co_await yield(5);
  at->ask_to_drain();
  const auto word = co_await at->draining_word();
  CHECK(word);
  const auto answer = co_await slow.ask("go on");
  CHECK(answer == "hold done");
  const auto last = co_await idle.ask("echo last");
  CHECK(last == "last");
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("a drain without any patience cancels at once, and closes what is idle") {
  auto options = quick();
  options.drain_timeout = 0ms;
  options.idle_grace = 10s;
  auto at = scene::start(co_await asio::this_coro::executor, &serve_lines, options);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  auto busy = co_await client::connect(where);
  busy.say("patient");
  auto idle = co_await client::connect(where);
  const bool serving = co_await eventually([&] { return at->self->open_connections() == 2; });
  CHECK(serving);
  co_await yield(5);
  at->ask_to_drain();
  const auto answer = co_await busy.line();
  CHECK(answer == "cancelled");
  const auto end = co_await idle.line();
  CHECK(end == client::closed);
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("a second SIGTERM ends the waiting for busy connections, the first one does not") {
  for (const bool by_parent : {false, true}) {
    auto at = scene::start(co_await asio::this_coro::executor);
    asio::ip::tcp::endpoint where;
    const descriptor mine = co_await at->listen(where);
    auto busy = co_await client::connect(where);
    busy.say("patient");
    auto slow = co_await client::connect(where);
    const auto begun = co_await slow.ask("hold");
    CHECK(begun == "holding");
    const bool serving = co_await eventually([&] { return at->self->open_connections() == 2; });
    CHECK(serving);
    co_await yield(5);
    if (by_parent) at->ask_to_drain();
    const bool draining = co_await eventually([&] { return at->self->draining() == by_parent; });
    CHECK(draining);
    ::raise(SIGTERM);  // a service manager sends it to all processes at once, whatever the parent says
    const bool told = co_await eventually([&] { return at->self->draining(); });
    CHECK(told);
    co_await yield(20);
    const auto answer = co_await slow.ask("go on");
    CHECK(answer == "hold done");
    REQUIRE(at->self);
    CHECK(at->self->open_connections() == 1);
    ::raise(SIGTERM);  // whoever passes a stop on sends it twice
    co_await sleep(1s);
    CHECK(at->self->open_connections() == 1);
    ::raise(SIGTERM);
    const auto cancelled = co_await busy.line();
    CHECK(cancelled == "cancelled");
    const int status = co_await at->ended();
    CHECK(status == 0);
  }
}

ASYNC_TEST("run returns although a handler ignores its cancellation") {
  auto options = quick();
  options.drain_timeout = 10ms;
  bool done = false;
  const auto executor = co_await asio::this_coro::executor;
  const connection_handler handler = [&](asio::ip::tcp::socket, worker&) -> asio::awaitable<void> {
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    while (!done) co_await sleep(1ms);
  };
  auto ends = make_channel_pair();
  control_channel parent(executor, std::move(ends.first));
  worker self(executor, {executor, std::move(ends.second)}, handler, options);
  std::optional<int> status;
  asio::co_spawn(executor, self.run(), [&](std::exception_ptr, int returned) { status = returned; });
  asio::ip::tcp::endpoint where;
  const descriptor mine = open_local(where);
  worker_protocol::listen listen;
  co_await parent.send_handle(listen, mine);
  auto one = co_await client::connect(where);
  const bool serving = co_await eventually([&] { return self.open_connections() == 1; });
  CHECK(serving);
  self.drain("now");
  const bool ended = co_await eventually([&] { return status.has_value(); });
  CHECK(ended);
  CHECK(self.open_connections() == 1);
  done = true;
  const bool gone = co_await eventually([&] { return self.open_connections() == 0; });
  CHECK(gone);
}

ASYNC_TEST("a socket that comes while a worker drains is refused, and stays the parent's") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  descriptor mine = co_await at->listen(where);
  auto busy = co_await client::connect(where);
  const auto begun = co_await busy.ask("hold");
  CHECK(begun == "holding");
  const auto executor = co_await asio::this_coro::executor;
  acceptor other(executor, open_local(where));
  auto one = co_await client::connect(where);
  descriptor socket = other.try_accept();
  REQUIRE(socket);
  at->ask_to_drain();
  const auto word = co_await at->draining_word();
  CHECK(word);
  worker_protocol::serve serve;
  const auto code = co_await error_of(at->parent.send_handle(serve, std::move(socket)));
  CHECK(code == errc::handle_refused);
  REQUIRE(socket);
  CHECK(::send(socket.get(), "mine\n", 5, MSG_NOSIGNAL) == 5);
  const auto answer = co_await one.line();
  CHECK(answer == "mine");
  const auto listen = co_await error_of(at->lend(mine, 2));
  CHECK(listen == errc::handle_refused);
  const auto held = co_await busy.ask("go on");
  CHECK(held == "hold done");
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("sockets that stand before the drain in the channel are served, and those behind it come back") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  const auto executor = co_await asio::this_coro::executor;
  acceptor on(executor, open_local(where));
  std::vector<client> clients;
  const auto pending = std::make_error_code(std::errc::operation_in_progress);
  std::vector<std::error_code> outcomes(40, pending);
  std::vector<descriptor> sockets;
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    clients.push_back(co_await client::connect(where));
    clients.back().say("echo served");
    sockets.push_back(on.try_accept());
  }
  const auto give = [&](std::size_t i) -> asio::awaitable<void> {
    worker_protocol::serve serve;
    outcomes[i] = co_await error_of(at->parent.send_handle(serve, std::move(sockets[i])));
  };
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    asio::co_spawn(executor, give(i), asio::detached);
    if (i == outcomes.size() / 2) at->ask_to_drain();
  }
  const int status = co_await at->ended();
  CHECK(status == 0);
  const bool settled =
      co_await eventually([&] { return std::find(outcomes.begin(), outcomes.end(), pending) == outcomes.end(); });
  CHECK(settled);
  std::size_t served = 0;
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    if (!outcomes[i]) {
      const auto answer = co_await clients[i].line();
      CHECK(answer == "served");
      ++served;
    } else {
      CHECK((outcomes[i] == errc::handle_refused || outcomes[i] == errc::peer_closed));
      REQUIRE(sockets[i]);
      ::send(sockets[i].get(), "back\n", 5, MSG_NOSIGNAL);
      const auto answer = co_await clients[i].line();
      CHECK(answer == "back");
    }
  }
  CHECK(served < outcomes.size());
}

ASYNC_TEST("a worker that empties the queues serves all that waits there, and nothing is reset") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  descriptor mine = open_local(where);
  std::vector<client> clients;
  for (int i = 0; i < 50; ++i) {
    clients.push_back(co_await client::connect(where));
    clients.back().say("echo served");
  }
  co_await at->lend(mine);
  mine.reset();  // the worker has the last copy
  at->ask_to_drain(true);
  for (auto& each : clients) {
    const auto answer = co_await each.line();
    CHECK(answer == "served");
  }
  const int status = co_await at->ended();
  CHECK(status == 0);
  const auto refused = co_await ask_once(where, "echo");
  CHECK(refused == "(refused)");
}

ASYNC_TEST("a worker that is not asked to leaves the queues to others") {
  auto options = quick();
  auto at = scene::start(co_await asio::this_coro::executor, &serve_lines, options);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  at->ask_to_drain(false);
  const auto word = co_await at->draining_word();
  CHECK(word);
  auto one = co_await client::connect(where);
  const int status = co_await at->ended();
  CHECK(status == 0);
  acceptor on(co_await asio::this_coro::executor, descriptor(::fcntl(mine.get(), F_DUPFD_CLOEXEC, 0)));
  CHECK(on.try_accept());
}

ASYNC_TEST("a listener is given back when the parent wants it, by the number of its grant") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where, 1);
  co_await at->lend(mine, 2);
  worker_protocol::unlisten first;
  first.grant = 1;
  at->parent.post(first);
  co_await at->heard_all();
  const auto still = co_await ask_once(where, "echo still");
  CHECK(still == "still");
  worker_protocol::unlisten second;
  second.grant = 2;
  at->parent.post(second);
  at->parent.post(second);
  co_await at->heard_all();
  const bool served = co_await eventually([&] { return at->self->open_connections() == 0; });
  CHECK(served);
  auto one = co_await client::connect(where);
  for (int i = 0; i < 10; ++i) co_await at->heard_all();  // turns of the loop in which it would accept
  CHECK(at->self->open_connections() == 0);
  co_await at->lend(mine, 3);
  const auto answer = co_await one.ask("echo again");
  CHECK(answer == "again");
  at->ask_to_drain();
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("a worker that is short of descriptors pauses, and goes on when there are some") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  auto before = co_await client::connect(where);
  const auto first = co_await before.ask("echo before");
  CHECK(first == "before");
  {
    const fault<&system::calls::accept4> full(EMFILE, 1, every_time);
    auto one = co_await client::connect(where);
    one.say("echo waited");
    const auto began = std::chrono::steady_clock::now();
    const auto meanwhile = co_await before.ask("slow 220");
    CHECK(meanwhile == "slow done");
    CHECK(full.calls() >= 2);
    // one in 50 ms; thousands, if it spun
    CHECK(full.calls() <= 2 + (std::chrono::steady_clock::now() - began) / 50ms);
    REQUIRE(at->self);
    CHECK_FALSE(at->self->draining());
    CHECK(at->self->open_connections() == 1);
    before = std::move(one);
  }
  const auto answer = co_await before.line();
  CHECK(answer == "waited");
  at->ask_to_drain();
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("a worker that drains while it is short of descriptors serves what waits when there are some") {
  for (const bool busy : {false, true}) {
    auto at = scene::start(co_await asio::this_coro::executor);
    asio::ip::tcp::endpoint where;
    descriptor mine = co_await at->listen(where);
    std::vector<client> clients;
    {
      const fault<&system::calls::accept4> full(EMFILE, 1, every_time);
      for (int i = 0; i < 3; ++i) {
        clients.push_back(co_await client::connect(where));
        clients.back().say("echo late");
      }
      if (busy) {  // accept has failed already
        const bool tried = co_await eventually([&] { return full.calls() > 0; });
        CHECK(tried);
      }
      at->ask_to_drain(true);
      const bool draining = co_await eventually([&] { return at->self == nullptr || at->self->draining(); });
      CHECK(draining);
      mine.reset();  // nobody else is there for them
      const auto before = full.calls();
      const bool again = co_await eventually([&] { return full.calls() > before + 1; });
      CHECK(again);
      CHECK(at->self);
    }
    for (auto& each : clients) {
      const auto answer = co_await each.line();
      CHECK(answer == "late");
    }
    const int status = co_await at->ended();
    CHECK(status == 0);
  }
}

ASYNC_TEST("a worker that drains while it is short of descriptors ends when its time is up") {
  auto options = quick();
  options.drain_timeout = 100ms;
  auto at = scene::start(co_await asio::this_coro::executor, &serve_lines, options);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  const fault<&system::calls::accept4> full(EMFILE, 1, every_time);
  auto one = co_await client::connect(where);
  const bool tried = co_await eventually([&] { return full.calls() > 0; });
  CHECK(tried);
  at->ask_to_drain(true);
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("a worker that its parent does not listen to ends all the same") {
  auto at = std::make_shared<scene>(co_await asio::this_coro::executor, &serve_lines, quick());
  at->run();
  at->self->drain("nobody reads this");
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("connections that have begun and not yet asked anything do not hold up a drain") {
  auto at = scene::start(co_await asio::this_coro::executor);
  asio::ip::tcp::endpoint where;
  const descriptor mine = co_await at->listen(where);
  std::vector<client> clients;
  for (int i = 0; i < 100; ++i) clients.push_back(co_await client::connect(where));
  const bool all = co_await eventually([&] { return at->self->open_connections() == 100; });
  CHECK(all);
  at->ask_to_drain(true);
  for (auto& each : clients) {
    const auto end = co_await each.line();
    CHECK(end == client::closed);
  }
  const int status = co_await at->ended();
  CHECK(status == 0);
}

ASYNC_TEST("a handler may ask its worker to drain while the queues are being emptied") {
  int called = 0;
  const connection_handler handler = [&](asio::ip::tcp::socket socket, worker& self) -> asio::awaitable<void> {
    if (++called == 3) self.fail("the third one");
    return serve_lines(std::move(socket), self);
  };
  auto at = scene::start(co_await asio::this_coro::executor, handler);
  asio::ip::tcp::endpoint where;
  descriptor mine = open_local(where);
  std::vector<client> clients;
  for (int i = 0; i < 30; ++i) {
    clients.push_back(co_await client::connect(where));
    clients.back().say("echo served");
  }
  const fault<&system::calls::accept4> full(EMFILE);
  co_await at->lend(mine);
  const bool paused = co_await eventually([&] { return full.failed() == 1; });
  CHECK(paused);
  mine.reset();
  at->ask_to_drain(true);  // before the worker tries again
  for (auto& each : clients) {
    const auto answer = co_await each.line();
    CHECK(answer == "served");
  }
  const int status = co_await at->ended();
  CHECK(status == 1);
  CHECK(called == 30);
}

PLAIN_TEST("a worker knows its slot from the environment") {
  const auto slot_of = [](const char* value) {
    if (value != nullptr) ::setenv("COHORT_SLOT", value, 1);
    asio::io_context context;
    auto ends = make_channel_pair();
    const worker self(context.get_executor(), {context.get_executor(), std::move(ends.second)}, &serve_lines,
                      worker_options());
    ::unsetenv("COHORT_SLOT");
    return self.slot();
  };
  CHECK(slot_of(nullptr) == 0);
  CHECK(slot_of("7") == 7);
}

// A protocol that says goodbye: a line of its own when the worker drains, in the middle of what goes on.
asio::awaitable<void> say_goodbye(asio::ip::tcp::socket socket, worker& self) {
  co_await self.until_draining();
  co_await socket.async_write_some(asio::buffer("goodbye\n", 8), asio::use_awaitable);
  co_await serve_lines(std::move(socket), self);
}

ASYNC_TEST("a handler hears of the drain when it begins, and may say goodbye") {
  auto s = scene::start(co_await asio::this_coro::executor, &say_goodbye);
  asio::ip::tcp::endpoint at;
  const auto socket = co_await s->listen(at);
  auto one = co_await client::connect(at);
  const bool served = co_await eventually([&] { return s->self->open_connections() == 1; });
  CHECK(served);
  s->self->drain("the test asks");
  const auto line = co_await one.line();
  CHECK(line == "goodbye");
  const int status = co_await s->ended();
  CHECK(status == 0);
}

}  // namespace
}  // namespace cohort::test::worker_test
