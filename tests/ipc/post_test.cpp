// SPDX-License-Identifier: BSL-1.0
#include <string>
#include <utility>
#include <vector>

#include "../support/cancellation.hpp"
#include "calls.hpp"
#include "channels.hpp"

namespace cohort::test::post_test {
namespace {

struct item {
  int number = 0;
  std::string text;
};

using both = connected<item, item>;

ASYNC_TEST("a message is posted if the channel is open, and else is not") {
  const auto executor = co_await asio::this_coro::executor;
  talking ends(executor);
  const number what{7};
  CHECK(ends.here.post_if_open(what));
  const auto first = co_await next(ends.there);
  CHECK(first == "7");

  channel<any_message, any_message> none;
  CHECK_FALSE(none.post_if_open(what));

  co_await ends.here.disconnect();
  CHECK_FALSE(ends.here.post_if_open(what));

  talking gone(executor);
  gone.there.close();
  const auto end = co_await next(gone.here);
  CHECK(end == "(end)");
  CHECK_FALSE(gone.here.post_if_open(what));
  gone.here.close();
  CHECK_FALSE(gone.here.post_if_open(what));
}

ASYNC_TEST("a message is not posted to a peer that does not know its type, and nothing is thrown") {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  channel<any_message, any_message> here(executor, std::move(ends.first));
  channel<any_message, std::variant<text, nothing>> there(executor, std::move(ends.second));
  const text hello{"hello"};
  co_await there.send(hello);
  const auto got = co_await next(here);
  CHECK(got == "hello");
  const number what{7};
  const text word{"word"};
  CHECK_FALSE(here.post_if_open(what));
  CHECK(here.post_if_open(word));
}

ASYNC_TEST("a full channel takes no further message, open as it is") {
  channel_options small;
  small.high_water = 64 * 1024;
  both ends(co_await asio::this_coro::executor, small, small);
  const item what{1, std::string(10'000, 'a')};
  int posted = 0;
  while (ends.here.post_if_open(what)) ++posted;
  CHECK(posted > 5);
  CHECK(ends.here.is_open());
}

ASYNC_TEST("a cancelled send_many takes back its own messages and nobody else's, and counts its own") {
  const auto executor = co_await asio::this_coro::executor;
  channel_options options;
  options.high_water = 64 * 1024;
  both ends(executor, options, options);
  std::vector<item> messages;
  for (int i = 0; i < 200; ++i) messages.push_back(item{i, std::string(10'000, 'a')});
  std::size_t sent = 0;
  bool aborted = false;
  task_group tasks(executor);
  const auto send = [&]() -> asio::awaitable<void> {
    try {
      sent = co_await ends.here.send_many(messages);
    } catch (const std::system_error&) {
      aborted = true;
    }
  };
  const auto cancel = tasks.start(send(), ignored("it is counted"));
  co_await yield(20);
  // Room for a while: the batch goes on, with a foreign message between its parts.
  int received = 0, foreign = 0;
  const auto take = [&](int most) -> asio::awaitable<void> {
    for (int i = 0; i < most; ++i) {
      const auto got = co_await ends.there.receive();
      if (!got) co_return;
      got->number < 0 ? ++foreign : ++received;
    }
  };
  const auto single = [&]() -> asio::awaitable<void> {
    const item between{-1, "between"};
    co_await ends.here.send(between);
  };
  outcome_of<void> other(executor, single());
  co_await take(60);
  co_await yield(20);
  if (const auto signal = cancel.lock()) signal->emit(asio::cancellation_type::terminal);
  const auto rest = [&]() -> asio::awaitable<void> { co_await take(1000); };
  outcome_of<void> taking(executor, rest());
  co_await tasks.wait_empty();
  CHECK_FALSE(aborted);
  co_await other.get();
  co_await ends.here.disconnect();
  co_await taking.get();
  CHECK(foreign == 1);
  CHECK(sent < 200);
  CHECK(sent == static_cast<std::size_t>(received));
}

ASYNC_TEST("what was queued before a message that cannot be sent goes out") {
  const auto executor = co_await asio::this_coro::executor;
  channel_options options;
  options.max_message = 1000;
  both ends(executor, options, options);
  std::vector<item> messages{{1, "a"}, {2, "b"}, {3, std::string(2000, 'c')}};
  bool refused = false;
  try {
    co_await ends.here.send_many(messages);
  } catch (const std::system_error& error) {
    refused = error.code() == errc::message_too_large;
  }
  CHECK(refused);
  const auto first = co_await ends.there.receive();
  const auto second = co_await ends.there.receive();
  REQUIRE(first.has_value());
  REQUIRE(second.has_value());
  CHECK(second->number == 2);
}

using namespace questions;

ASYNC_TEST("functions with captures have a name when they are given to calls") {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  channel<std::variant<twice, echo>, std::variant<questions::number, questions::text>> client(executor, std::move(ends.first));
  channel<std::variant<questions::number, questions::text>, std::variant<twice, echo>> server(executor, std::move(ends.second));
  const std::string prefix(100, 'p');
  const auto answer = [prefix](echo what) -> asio::awaitable<questions::text> {
    co_return questions::text{prefix + what.text};
  };
  outcome_of<void> serving(executor, server.serve_calls(answer));
  const echo question{"x"};
  std::string heard;
  const auto note = [&heard, prefix](questions::number) { heard = prefix; };
  const auto reply = co_await client.call<questions::text>(question, note);
  CHECK(reply.value == prefix + "x");
  co_await client.disconnect();
  co_await serving.get();
}

}  // namespace
}  // namespace cohort::test::post_test
