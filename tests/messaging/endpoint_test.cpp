// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/messaging/endpoint.hpp"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../../include/cohort/core/event.hpp"
#include "../support/harness.hpp"

namespace cohort::test::endpoint_test {
namespace {

constexpr std::uint64_t news = 11, other = 12;

member here() {
  member who;
  who.slot = 3;
  who.pid = 4711;
  return who;
}

routed_message letter(std::uint64_t type, std::string body) {
  routed_message what;
  what.type = type;
  what.body = std::move(body);
  what.from.slot = 9;
  return what;
}

/// What goes out, and stays on its way until `gate` is set.
struct way_out {
  explicit way_out(const asio::any_io_executor& executor)
      : gate(executor), endpoint(executor, here(), [this](routed_message what, bool directly) {
          return carry(std::move(what), directly);
        }) {}

  asio::awaitable<receipt> carry(routed_message what, bool directly) {
    direct.push_back(directly);
    carried.push_back(std::move(what));
    co_await gate.wait();
    if (!failure.empty()) throw std::runtime_error(failure);
    receipt result;
    result.delivered = 1;
    co_return result;
  }

  event gate;
  std::string failure;
  std::vector<routed_message> carried;
  std::vector<bool> direct;
  message_endpoint endpoint;
};

/// An endpoint that sends nothing, and listeners that take note.
struct way_in {
  explicit way_in(const asio::any_io_executor& executor) : endpoint(executor, here(), nullptr) {}

  std::uint64_t add(std::string name, std::uint64_t type = news, bool once = false) {
    return endpoint.add(
        type, [this, name](const std::string& body, const member& from) { return note(name, body, from.slot); }, once);
  }

  asio::awaitable<void> note(std::string name, std::string body, unsigned from) {
    co_await yield();
    calls += name + ":" + body + " ";
    CHECK(from == 9);
  }

  asio::awaitable<std::string> get(std::uint64_t type, std::string body) {
    auto what = letter(type, std::move(body));
    const auto became = co_await endpoint.receive(std::move(what));
    co_return to_string(became);
  }

  std::string calls;
  message_endpoint endpoint;
};

constexpr auto got_it = "delivered to 1 of 1";
constexpr auto unheard = "delivered to 0 of 1; worker 3 (pid 4711): nobody listens to it";

}  // namespace

ASYNC_TEST("a message goes out with its address, its type and who has sent it") {
  way_out out(co_await asio::this_coro::executor);
  out.gate.set();
  const auto agent = recipient::agent("cache"), slot = recipient::slot(5);
  const auto became = co_await out.endpoint.send(agent, news, "one");
  CHECK(became.complete());
  co_await out.endpoint.send(slot, other, "two", true);
  REQUIRE(out.carried.size() == 2);
  CHECK(out.direct == std::vector<bool>{false, true});
  const auto& first = out.carried[0];
  CHECK(detail::address_of(first).what() == recipient::kind::agent);
  CHECK(first.name == "cache");
  CHECK(first.type == news);
  CHECK(first.body == "one");
  CHECK(first.from == here());
  const auto& second = out.carried[1];
  CHECK(detail::address_of(second).what() == recipient::kind::slot);
  CHECK(second.number == 5);
  CHECK(second.type == other);
}

ASYNC_TEST("no more messages are under way than the window allows, and the others follow in their order") {
  const auto executor = co_await asio::this_coro::executor;
  constexpr std::size_t extra = 3;
  way_out out(executor);
  std::size_t ended = 0;
  const auto send = [&](std::size_t i) -> asio::awaitable<void> {
    const auto to = recipient::primary();
    co_await out.endpoint.send(to, news, std::to_string(i));
    ++ended;
  };
  for (std::size_t i = 0; i < message_endpoint::window + extra; ++i) asio::co_spawn(executor, send(i), asio::detached);
  co_await yield(10);
  CHECK(out.carried.size() == message_endpoint::window);
  out.gate.set();
  const bool all = co_await eventually([&] { return ended == message_endpoint::window + extra; });
  CHECK(all);
  REQUIRE(out.carried.size() == message_endpoint::window + extra);
  for (std::size_t i = 0; i < out.carried.size(); ++i) CHECK(out.carried[i].body == std::to_string(i));
}

ASYNC_TEST("what the way out throws goes to the sender, and does not use up the window") {
  way_out out(co_await asio::this_coro::executor);
  out.gate.set();
  out.failure = "the line is dead";
  const auto to = recipient::primary();
  for (std::size_t i = 0; i < 2 * message_endpoint::window; ++i) {
    const auto text = co_await text_of(out.endpoint.send(to, news, ""));
    CHECK(text == "the line is dead");
  }
  out.failure.clear();
  const auto became = co_await out.endpoint.send(to, news, "");
  CHECK(became.complete());
}

ASYNC_TEST("a message that is cancelled before its turn does not go out") {
  const auto executor = co_await asio::this_coro::executor;
  way_out out(executor);
  const auto to = recipient::primary();
  const auto send = [&]() -> asio::awaitable<void> { co_await out.endpoint.send(to, news, "fills the window"); };
  for (std::size_t i = 0; i < message_endpoint::window; ++i) asio::co_spawn(executor, send(), asio::detached);
  asio::cancellation_signal cancel;
  bool cancelled = false;
  asio::co_spawn(executor, out.endpoint.send(to, news, "cancelled"),
                 asio::bind_cancellation_slot(
                     cancel.slot(), [&](std::exception_ptr thrown, receipt) { cancelled = thrown != nullptr; }));
  co_await yield(5);
  cancel.emit(asio::cancellation_type::terminal);
  co_await yield(5);
  CHECK(cancelled);
  out.gate.set();
  const auto last = co_await out.endpoint.send(to, news, "last");
  CHECK(last.complete());
  REQUIRE(out.carried.size() == message_endpoint::window + 1);
  CHECK(out.carried.back().body == "last");
}

ASYNC_TEST("a message comes to all listeners of its type, one after the other in their order") {
  way_in in(co_await asio::this_coro::executor);
  in.add("a");
  in.add("b", other);
  in.add("c");
  const auto became = co_await in.get(news, "x");
  CHECK(became == got_it);
  CHECK(in.calls == "a:x c:x ");
  const auto elsewhere = co_await in.get(99, "y");
  CHECK(elsewhere == unheard);
}

ASYNC_TEST("a type that is ignored counts as delivered, until all who ignore it have changed their mind") {
  way_in in(co_await asio::this_coro::executor);
  in.endpoint.ignore(news);
  in.endpoint.ignore(news);
  in.endpoint.unignore(news);
  auto became = co_await in.get(news, "x");
  CHECK(became == got_it);
  in.endpoint.unignore(news);
  in.endpoint.unignore(news);  // once too often
  became = co_await in.get(news, "x");
  CHECK(became == unheard);
}

ASYNC_TEST("what a listener throws is told once, and the other listeners hear the message all the same") {
  way_in in(co_await asio::this_coro::executor);
  in.endpoint.add(
      news, [](const std::string&, const member&) -> asio::awaitable<void> { throw std::runtime_error("no room"); },
      false);
  in.endpoint.add(
      news, [](const std::string&, const member&) -> asio::awaitable<void> { throw 42; }, false);
  in.add("c");
  auto became = co_await in.get(news, "x");
  CHECK(became == "delivered to 0 of 1; worker 3 (pid 4711): failed: no room");
  CHECK(in.calls == "c:x ");
  in.endpoint.add(
      other, [](const std::string&, const member&) -> asio::awaitable<void> { throw 42; }, false);
  became = co_await in.get(other, "y");
  CHECK(became == "delivered to 0 of 1; worker 3 (pid 4711): failed: an exception that is no std::exception");
}

ASYNC_TEST("a listener for one message is gone before it is called") {
  way_in in(co_await asio::this_coro::executor);
  std::string nested;
  const auto again = [&](const std::string&, const member&) -> asio::awaitable<void> {
    nested = co_await in.get(news, "nested");
  };
  in.endpoint.add(news, again, true);
  const auto became = co_await in.get(news, "x");
  CHECK(became == got_it);
  CHECK(nested == unheard);
}

ASYNC_TEST("a listener that another one removes is not called, and one that another one adds hears the next message") {
  way_in in(co_await asio::this_coro::executor);
  std::uint64_t second = 0;
  const auto change = [&](const std::string&, const member&) -> asio::awaitable<void> {
    in.endpoint.remove(second);
    if (in.calls.empty()) in.add("added");
    co_return;
  };
  in.endpoint.add(news, change, false);
  second = in.add("removed");
  in.add("stays");
  auto became = co_await in.get(news, "1");
  CHECK(became == got_it);
  CHECK(in.calls == "stays:1 ");
  became = co_await in.get(news, "2");
  CHECK(became == got_it);
  CHECK(in.calls == "stays:1 stays:2 added:2 ");
  in.endpoint.remove(second);  // once more is nothing
}

ASYNC_TEST("an endpoint says whether it lives") {
  const auto executor = co_await asio::this_coro::executor;
  std::optional<message_endpoint> endpoint(std::in_place, executor, here(), nullptr);
  const auto lives = endpoint->alive();
  CHECK_FALSE(lives.expired());
  CHECK(endpoint->self() == here());
  endpoint.reset();
  CHECK(lives.expired());
}

}  // namespace cohort::test::endpoint_test
