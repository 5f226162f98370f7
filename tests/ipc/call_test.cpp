// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/ipc/call.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <sys/socket.h>

#include "../../include/cohort/core/task_group.hpp"
#include "../../include/cohort/core/timeout.hpp"
#include "../../include/cohort/ipc/channel_pair.hpp"
#include "../../include/cohort/ipc/peer.hpp"
#include "../support/cancellation.hpp"
#include "../support/harness.hpp"
#include "calls.hpp"
#include "over_transport.hpp"

namespace cohort::test::call_test {

using namespace questions;
using questions::number, questions::text;  // not those of protocol.hpp

namespace {

void ignore(std::exception_ptr) {}

/// Both ends in this process, and who answers.
struct line {
  explicit line(asio::any_io_executor executor, const channel_options& options = {}, answers with = {})
      : tasks(executor) {
    auto ends = make_channel_pair();
    client = asking(executor, std::move(ends.first));
    server = answering(executor, std::move(ends.second), options);
    tasks.start(server.serve_calls(with), [this](std::exception_ptr failure) { served = true, end = failure; });
  }

  /// Ends the answering as a peer that disconnects does, and waits for it.
  asio::awaitable<void> close() {
    co_await client.disconnect();
    co_await tasks.wait_empty();
    if (end) std::rethrow_exception(end);
  }

  asking client;
  answering server;
  task_group tasks;
  bool served = false;
  std::exception_ptr end;
};

asio::awaitable<number> ask_twice(asking& client, int value) {
  const twice question{value};
  co_return co_await client.call<number>(question);
}

asio::awaitable<number> ask_never(asking& client) {
  const never question;
  co_return co_await client.call<number>(question);
}

/// A peer whose bytes the test writes itself, in frames of messages.
struct raw_peer {
  raw_peer(asio::any_io_executor executor) {
    auto ends = make_channel_pair();
    client = asking(executor, std::move(ends.first));
    socket = std::move(ends.second);
    byte_buffer payload;
    encode(payload, make_hello<calls_protocol::to_parent, calls_protocol::to_child>(1 << 20));
    write(wire::kind::hello, payload.view());
  }

  void write(wire::kind kind, std::string_view payload) {
    std::string frame(wire::header_size, '\0');
    wire::put_header(frame.data(), kind, static_cast<std::uint32_t>(payload.size()));
    frame += payload;
    const auto sent = ::send(socket.get(), frame.data(), frame.size(), MSG_NOSIGNAL);
    CHECK(sent == static_cast<ssize_t>(frame.size()));
  }

  void write(wire::envelope what, std::uint64_t id, std::string_view inside) {
    detail::encoded_message head;
    head.bytes.grow(wire::envelope_size);
    detail::put_envelope(head, what, id);
    write(wire::kind::message, std::string(head.bytes.view()) + std::string(inside));
  }

  asking client;
  descriptor socket;
};

/// Asks and answers the same, as its other end does.
struct equal {
  using message = std::variant<echo, text>;
  using ends = channel<message, message>;

  equal(asio::any_io_executor executor, descriptor socket) : line(executor, std::move(socket)), tasks(executor) {
    const auto answer = [](echo what) -> asio::awaitable<text> {
      text result{std::move(what.text)};
      co_return result;
    };
    serving.emplace(executor);
    serving->start(line.serve_calls(answer), &ignore);
  }

  asio::awaitable<void> ask(std::size_t size) {
    echo question;
    question.text = std::string(size, 'q');
    const auto answer = co_await line.call<text>(question);
    if (answer.value.size() == size) ++answered;
  }

  ends line;
  task_group tasks;
  std::optional<task_group> serving;
  int answered = 0;
};

ASYNC_TEST("two that ask each other more than fits anywhere both get all answers") {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  equal here(executor, std::move(ends.first)), there(executor, std::move(ends.second));
  constexpr int calls = 300;
  for (int i = 0; i < calls; ++i) {
    here.tasks.start(here.ask(40'000), &ignore);
    there.tasks.start(there.ask(40'000), &ignore);
  }
  co_await here.tasks.wait_empty();
  co_await there.tasks.wait_empty();
  CHECK(here.answered == calls);
  CHECK(there.answered == calls);
  here.line.close();
  there.line.close();
  co_await here.serving->wait_empty();
  co_await there.serving->wait_empty();
}

}  // namespace

ASYNC_TEST("a question is answered, by a process of its own too") {
  auto child = co_await spawn<calls_protocol>(command(helper_path(), "answer-calls"), over_transport());
  const twice question{21};
  const auto reply = co_await child.call<number>(question);
  CHECK(reply.value == 42);
  const echo big{std::string(3'000'000, 'x')};
  const auto same = co_await child.call<text>(big);
  const bool equal = same.value == big.text;
  CHECK(equal);
  co_await child.disconnect();
  const auto status = co_await child.wait();
  CHECK(status.success());
}

ASYNC_TEST("many calls are under way at once, and each gets its own answer, in whatever order") {
  const auto executor = co_await asio::this_coro::executor;
  line on(executor);
  std::vector<int> order;
  task_group callers(executor);
  const auto ask = [&](int steps) -> asio::awaitable<void> {
    const slowly question{steps};
    const auto reply = co_await on.client.call<number>(question);
    CHECK(reply.value == steps);
    order.push_back(steps);
  };
  for (const int steps : {30, 1, 15}) callers.start(ask(steps), ignore);
  for (int i = 0; i < 500; ++i) callers.start(ask(0), ignore);
  co_await callers.wait_empty();
  REQUIRE(order.size() == 503);
  CHECK(order[500] == 1);
  CHECK(order[501] == 15);
  CHECK(order[502] == 30);
  co_await on.close();
}

ASYNC_TEST("words about the progress come in order, and before the answer") {
  line on(co_await asio::this_coro::executor);
  std::vector<int> heard;
  const slowly question{5};
  const auto reply = co_await on.client.call<number>(question, [&](step so_far) { heard.push_back(so_far.done); });
  CHECK(reply.value == 5);
  CHECK(heard == std::vector<int>{1, 2, 3, 4, 5});
  const auto again = co_await on.client.call<number>(question);  // nobody listens to them
  CHECK(again.value == 5);
  co_await on.close();
}

ASYNC_TEST("any answer will do for who asks for the whole variant") {
  line on(co_await asio::this_coro::executor);
  const echo question{"hello"};
  const auto reply = co_await on.client.call<calls_protocol::to_parent>(question);
  CHECK(std::get<text>(reply).value == "hello");
  co_await on.close();
}

ASYNC_TEST("an answer of another type than was wanted is said with both names") {
  line on(co_await asio::this_coro::executor);
  const echo question{"hello"};
  const auto code = co_await error_of(on.client.call<number>(question));
  CHECK(code == errc::schema_mismatch);
  const auto said = co_await text_of(on.client.call<number>(question));
  CHECK(said.find("number") != said.npos);
  CHECK(said.find("text") != said.npos);
  co_await on.close();
}

ASYNC_TEST("what a handler throws is told to the caller, and the next question is answered") {
  line on(co_await asio::this_coro::executor);
  const fails question{"the disk is full"};
  const auto code = co_await error_of(on.client.call<number>(question));
  CHECK(code == errc::call_failed);
  const auto said = co_await text_of(on.client.call<number>(question));
  CHECK(said.find("the disk is full") != said.npos);
  const auto reply = co_await ask_twice(on.client, 4);
  CHECK(reply.value == 8);
  co_await on.close();
}

ASYNC_TEST("a question that the handler does not take is refused by name") {
  line on(co_await asio::this_coro::executor);
  const unanswered question;
  const auto code = co_await error_of(on.client.call<number>(question));
  CHECK(code == errc::unknown_message);
  const auto said = co_await text_of(on.client.call<number>(question));
  CHECK(said.find("unanswered") != said.npos);
  co_await on.close();
}

ASYNC_TEST("a call that takes too long is cancelled on both sides") {
  int running = 0, cancelled = 0;
  answers counting;
  counting.running = &running;
  counting.cancelled = &cancelled;
  line on(co_await asio::this_coro::executor, {}, counting);
  const auto code = co_await error_of(with_timeout(ask_never(on.client), 20ms));
  CHECK(code == errc::timed_out);
  const bool gone = co_await eventually([&] { return cancelled == 1 && running == 0; });
  CHECK(gone);
  const auto reply = co_await ask_twice(on.client, 1);
  CHECK(reply.value == 2);
  co_await on.close();
}

ASYNC_TEST("a peer that is killed ends the calls that it has not answered") {
  auto child = co_await spawn<calls_protocol>(command(helper_path(), "answer-calls"), over_transport());
  const auto executor = co_await asio::this_coro::executor;
  std::vector<std::error_code> ends;
  task_group callers(executor);
  const auto ask = [&]() -> asio::awaitable<void> {
    const never question;
    ends.push_back(co_await error_of(child.call<number>(question)));
  };
  for (int i = 0; i < 10; ++i) callers.start(ask(), ignore);
  const twice question{1};
  const auto reply = co_await child.call<number>(question);  // the others have reached it
  CHECK(reply.value == 2);
  child.signal(SIGKILL);
  co_await callers.wait_empty();
  CHECK(ends == std::vector<std::error_code>(10, make_error_code(errc::peer_closed)));
  co_await child.wait();
}

ASYNC_TEST("a peer that disconnects ends the calls that it has not answered") {
  line on(co_await asio::this_coro::executor);
  const never question;
  std::error_code end;
  const auto ask = [&]() -> asio::awaitable<void> { end = co_await error_of(on.client.call<number>(question)); };
  on.tasks.start(ask(), ignore);
  co_await yield(5);
  co_await on.server.disconnect();
  const bool ended = co_await eventually([&] { return end == errc::peer_closed; });
  CHECK(ended);
  co_await on.client.disconnect();
  on.tasks.cancel();
  co_await on.tasks.wait_empty();
}

ASYNC_TEST("answering ends when the peer disconnects, and what was asked before is answered") {
  line on(co_await asio::this_coro::executor);
  const slowly question{10};
  std::optional<number> reply;
  const auto ask = [&]() -> asio::awaitable<void> { reply = co_await on.client.call<number>(question); };
  on.tasks.start(ask(), ignore);
  co_await yield(5);
  co_await on.client.disconnect();
  CHECK_FALSE(on.served);
  co_await on.tasks.wait_empty();
  CHECK(on.served);
  CHECK(on.end == nullptr);
  REQUIRE(reply.has_value());
  CHECK(reply->value == 10);
}

ASYNC_TEST("who stops answering tells those who wait") {
  const auto executor = co_await asio::this_coro::executor;
  line on(executor);
  std::error_code end;
  task_group callers(executor);
  const auto ask = [&]() -> asio::awaitable<void> { end = co_await error_of(ask_never(on.client)); };
  callers.start(ask(), ignore);
  co_await yield(5);
  on.tasks.cancel();
  co_await callers.wait_empty();
  CHECK(end == errc::call_failed);
  co_await on.tasks.wait_empty();
  CHECK(on.end != nullptr);
}

ASYNC_TEST("both sides may ask, also while they answer") {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  using both = channel<std::variant<twice, number>, std::variant<twice, number>>;
  both left(executor, std::move(ends.first)), right(executor, std::move(ends.second));
  task_group tasks(executor);
  const auto one_more = [&left](twice question) -> asio::awaitable<number> {
    if (question.number == 0) co_return number{0};
    const twice next{question.number - 1};
    const auto rest = co_await left.call<number>(next);
    co_return number{rest.value + 2};
  };
  const auto from_there = [&right](twice question) -> asio::awaitable<number> {
    if (question.number == 0) co_return number{0};
    const twice next{question.number - 1};
    const auto rest = co_await right.call<number>(next);
    co_return number{rest.value + 2};
  };
  tasks.start(left.serve_calls(one_more), ignore);
  tasks.start(right.serve_calls(from_there), ignore);
  const twice question{20};
  const auto reply = co_await left.call<number>(question);
  CHECK(reply.value == 40);
  tasks.cancel();
  co_await tasks.wait_empty();
}

ASYNC_TEST("no more questions are answered at a time than the options allow") {
  int running = 0, most = 0;
  answers counting;
  counting.running = &running;
  counting.most = &most;
  channel_options options;
  options.max_calls = 3;
  const auto executor = co_await asio::this_coro::executor;
  line on(executor, options, counting);
  task_group callers(executor);
  int answered = 0;
  const auto ask = [&]() -> asio::awaitable<void> {
    const slowly question{2};
    co_await on.client.call<number>(question);
    ++answered;
  };
  for (int i = 0; i < 20; ++i) callers.start(ask(), ignore);
  co_await callers.wait_empty();
  CHECK(answered == 20);
  CHECK(most == 3);
  co_await on.close();
}

ASYNC_TEST("calls, messages and handles go side by side over one channel") {
  const auto executor = co_await asio::this_coro::executor;
  line on(executor);
  std::vector<int> received;
  const auto receive = [&]() -> asio::awaitable<void> {
    while (auto message = co_await on.server.receive()) received.push_back(std::get<twice>(*message).number);
  };
  int handles = 0;
  const auto receive_handles = [&]() -> asio::awaitable<void> {
    while (auto given = co_await on.server.receive_handle()) ++handles;
  };
  on.tasks.start(receive(), ignore);
  on.tasks.start(receive_handles(), ignore);
  for (int i = 0; i < 10; ++i) {
    const twice message{i};
    co_await on.client.send(message);
    const auto reply = co_await ask_twice(on.client, i);
    CHECK(reply.value == 2 * i);
    descriptor some(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    co_await on.client.send_handle(message, std::move(some));
  }
  co_await on.close();
  CHECK(received == std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  CHECK(handles == 10);
}

ASYNC_TEST("a call over a channel that is closed, or whose peer is gone, fails at once") {
  const auto executor = co_await asio::this_coro::executor;
  auto none = asking();
  const twice question{1};
  bool threw = false;
  try {
    co_await none.call<number>(question);
  } catch (const std::system_error& error) {
    threw = error.code() == errc::closed;
  }
  CHECK(threw);
  auto ends = make_channel_pair();
  asking alone(executor, std::move(ends.first));
  ends.second.reset();
  const auto code = co_await error_of(alone.call<number>(question));
  CHECK(code == errc::peer_closed);
}

ASYNC_TEST("a question that is too large is not sent") {
  line on(co_await asio::this_coro::executor);
  const echo question{std::string(65 * 1024 * 1024, 'x')};
  bool threw = false;
  try {
    co_await on.client.call<text>(question);
  } catch (const std::system_error& error) {
    threw = error.code() == errc::message_too_large;
  }
  CHECK(threw);
  const auto reply = co_await ask_twice(on.client, 3);
  CHECK(reply.value == 6);
  co_await on.close();
}

ASYNC_TEST("an answer to a call that was never made breaks the channel") {
  raw_peer peer(co_await asio::this_coro::executor);
  peer.write(wire::envelope::reply, 1, std::string(6, '\0'));
  const auto code = co_await error_of(peer.client.receive());
  CHECK(code == errc::malformed);
}

ASYNC_TEST("an envelope that is too short breaks the channel") {
  for (const auto what : {wire::envelope::request, wire::envelope::reply, wire::envelope::progress,
                          wire::envelope::failure, wire::envelope::cancel}) {
    raw_peer peer(co_await asio::this_coro::executor);
    detail::encoded_message head;
    head.bytes.grow(wire::envelope_size);
    detail::put_envelope(head, what, 1);
    peer.write(wire::kind::message, head.bytes.view().substr(0, 9));
    const auto code = co_await error_of(peer.client.receive());
    CHECK(code == errc::malformed);
  }
}

ASYNC_TEST("an answer that does not decode breaks the channel") {
  raw_peer peer(co_await asio::this_coro::executor);
  const auto answer_badly = [&]() -> asio::awaitable<void> {
    co_await yield(3);
    peer.write(wire::envelope::reply, 1, std::string("\0\0\1", 3));  // a number of one byte
  };
  task_group tasks(co_await asio::this_coro::executor);
  tasks.start(answer_badly(), ignore);
  const auto code = co_await error_of(ask_twice(peer.client, 1));
  CHECK(code == errc::malformed);
  CHECK_FALSE(peer.client.is_open());
  co_await tasks.wait_empty();
}

ASYNC_TEST("cancelling a request that has been answered is no error") {
  raw_peer peer(co_await asio::this_coro::executor);
  peer.write(wire::envelope::request, 77, std::string(6, '\0'));  // number{0}
  task_group tasks(co_await asio::this_coro::executor);
  const auto deaf = [](step) -> asio::awaitable<twice> { co_return twice{0}; };
  tasks.start(peer.client.serve_calls(deaf), ignore);
  co_await yield(5);
  peer.write(wire::envelope::cancel, 77, "");
  byte_buffer message;
  wire::store(message.grow(2), 0, 2);
  encode(message, number{5});
  peer.write(wire::kind::message, message.view());
  const auto got = co_await peer.client.receive();
  REQUIRE(got.has_value());
  CHECK(std::get<number>(*got).value == 5);
  peer.client.close();
  co_await tasks.wait_empty();
}

ASYNC_TEST("a call is cancelled once: the second time breaks the channel, whatever has become of it") {
  for (const bool begun : {false, true}) {
    raw_peer peer(co_await asio::this_coro::executor);
    task_group tasks(co_await asio::this_coro::executor);
    peer.write(wire::envelope::request, 1, std::string(6, '\0'));  // number{0}
    const auto stubborn = [](number) -> asio::awaitable<twice> {
      co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
      asio::steady_timer later(co_await asio::this_coro::executor, std::chrono::milliseconds(20));
      co_await later.async_wait(asio::use_awaitable);
      co_return twice{0};
    };
    if (begun) tasks.start(peer.client.serve_calls(stubborn), ignore);
    co_await yield(3);
    peer.write(wire::envelope::cancel, 1, "");
    peer.write(wire::envelope::cancel, 1, "");
    const auto code = co_await error_of(peer.client.receive());
    CHECK(code == errc::malformed);
    co_await tasks.wait_empty();
  }
}

PLAIN_TEST("a call that is cancelled at any moment is answered, or cancels its handler, and leaves nothing") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    int running = 0;
    answers counting;
    counting.running = &running;
    line on(co_await asio::this_coro::executor, {}, counting);
    const slowly question{2};
    const auto reply = co_await cancelled(on.client.call<number>(question));
    if (reply) CHECK(reply->value == 2);
    const auto next = co_await ask_twice(on.client, 5);
    CHECK(next.value == 10);
    const bool ended = co_await eventually([&] { return running == 0; });
    CHECK(ended);
    co_await on.close();
  });
  CHECK(points > 3);
}

PLAIN_TEST("answering that is cancelled at any moment can be taken up again") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    auto ends = make_channel_pair();
    asking client(executor, std::move(ends.first));
    answering server(executor, std::move(ends.second));
    task_group tasks(executor);
    std::optional<number> reply;
    std::error_code end;
    const auto ask = [&]() -> asio::awaitable<void> {
      try {
        reply = co_await ask_twice(client, 8);
      } catch (const std::system_error& error) {
        end = error.code();
      }
      co_await client.disconnect();
    };
    tasks.start(ask(), ignore);
    const bool completed = co_await cancelled(server.serve_calls(answers()));
    if (!completed) co_await server.serve_calls(answers());
    co_await tasks.wait_empty();
    const bool answered = reply && reply->value == 16;
    CHECK((answered || end == errc::call_failed));
  });
  CHECK(points > 3);
}

}  // namespace cohort::test::call_test
