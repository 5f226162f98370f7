// SPDX-License-Identifier: BSL-1.0
// What ends or blocks a Node process, from a peer that does it to this side: none of it may end or block a link.
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../../include/cohort/core/error.hpp"
#include "../../include/cohort/ipc/node/link.hpp"
#include "../support/fault.hpp"
#include "raw_peer.hpp"

namespace cohort::test::node_hostile_test {
namespace {

/// Whether the link still receives and sends.
asio::awaitable<void> goes_on(against_raw_peer& both) {
  both.there.write("\"on\"\n");
  const auto next = co_await both.here.receive();
  REQUIRE(next.has_value());
  CHECK(next->value == json("on"));
  const json reply = "and on";
  co_await both.here.send(reply);
  const auto line = co_await both.there.line();
  CHECK(line == "\"and on\"");
}

ASYNC_TEST("acknowledgements that nobody waits for change nothing") {
  against_raw_peer both(co_await asio::this_coro::executor);
  for (int time = 0; time < 3; ++time) both.there.write(std::string(ack) + "\n" + nack + "\n");
  co_await goes_on(both);
  auto ends = make_channel_pair();
  const json message = 1;
  for (int time = 0; time < 2; ++time) {
    both.there.write(std::string(ack) + "\n" + ack + "\n");
    co_await yield(5);
  }
  both.there.write("\"before\"\n");
  const auto before = co_await both.here.receive();
  CHECK(before->value == json("before"));
}

ASYNC_TEST("lines that are no JSON are errors in their place, and the next one is received") {
  against_raw_peer both(co_await asio::this_coro::executor);
  for (const char* line : {"\n", " \t\r\n", "{\n", "nothing\n", "\"\x01\"\n", "{\"a\":}\n"}) {
    both.there.write(line);
    const auto error = co_await error_of(both.here.receive());
    CHECK(error == errc::malformed);
  }
  both.there.write("\xef\xbb\xbf\"behind a mark\"\n\"\xff\"\n");
  auto next = co_await both.here.receive();
  CHECK(next->value == json("behind a mark"));
  next = co_await both.here.receive();
  CHECK(next->value == json("\xef\xbf\xbd"));
  co_await goes_on(both);
}

ASYNC_TEST("frames that are no V8 are errors in their place, and the next one is received") {
  node_options options;
  options.serialization = node_serialization::advanced;
  against_raw_peer both(co_await asio::this_coro::executor, options);
  using namespace std::string_view_literals;
  for (const auto frame : {"\0\0\0\0"sv, "\0\0\0\x01\xff"sv, "\0\0\0\x03\xff\x10"
                                                              "0"sv, "\0\0\0\x05xxxxx"sv}) {
    both.there.write(frame);
    const auto error = co_await error_of(both.here.receive());
    CHECK(error == errc::malformed);
  }
  both.there.write("\0\0\0\x03\xff\x0f"
                   "T"sv);
  const auto next = co_await both.here.receive();
  CHECK(next->value == json(true));
}

ASYNC_TEST("a message that is too large ends the channel, before it is all there") {
  node_options options;
  options.max_message = 1000;
  for (const auto mode : {node_serialization::json_lines, node_serialization::advanced}) {
    options.serialization = mode;
    against_raw_peer both(co_await asio::this_coro::executor, options);
    both.there.write(mode == node_serialization::json_lines ? std::string(2000, 'x') : std::string("\x7f\xff\xff\xff"));
    for (int again = 0; again < 2; ++again) {
      const auto error = co_await error_of(both.here.receive());
      CHECK(error == errc::message_too_large);
    }
    const json message = 1;
    const auto error = co_await error_of(both.here.send(message));
    CHECK(error == errc::message_too_large);
    CHECK(both.there.at_end());
  }
}

ASYNC_TEST("a handle without a descriptor is refused, and one of any kind is taken") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw_peer both(executor);
  both.there.write(envelope("net.Socket", "1"));
  auto line = co_await both.there.line();
  CHECK(line == nack);
  const descriptor null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const descriptor counter(::eventfd(0, EFD_CLOEXEC));
  auto ends = make_channel_pair();
  for (const int fd : {null.get(), counter.get(), ends.first.get()}) {
    for (const char* type : {"net.Server", "net.Socket", "dgram.Socket", "net.Native", "dgram.Native"}) {
      both.there.write(envelope(type, "{\"n\":1}"), {fd});
      line = co_await both.there.line();
      CHECK(line == ack);
      auto next = co_await both.here.receive();
      CHECK(next->value == parsed("{\"n\":1}"));
      CHECK(next->handle.object.kind() == kind_of(fd));
    }
  }
  both.there.write(envelope("net.Nothing", "1"), {null.get()});
  line = co_await both.there.line();
  CHECK(line == ack);
  const auto text = co_await text_of(both.here.receive());
  CHECK(text == "receive: a handle of type \"net.Nothing\", which Node does not have: malformed data from the peer");
  both.there.write("{\"cmd\":\"NODE_HANDLE\"}\n", {null.get()});
  line = co_await both.there.line();
  CHECK(line == ack);
  const auto error = co_await error_of(both.here.receive());
  CHECK(error == errc::malformed);
  co_await goes_on(both);
}

ASYNC_TEST("what Node sends again in a second envelope is one message with one acknowledgement") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw_peer both(executor);
  auto ends = make_channel_pair();
  std::string again = envelope("net.Socket", "\"hello\"", R"(,"key":"4:127.0.0.1:0")");
  for (int time = 0; time < 3; ++time) {
    again.pop_back();
    again = envelope("net.Native", again);
  }
  both.there.write(again, {ends.first.get()});
  const auto line = co_await both.there.line();
  CHECK(line == ack);
  const auto next = co_await both.here.receive();
  CHECK(next->value == json("hello"));
  CHECK(next->handle.type == node_handle_type::socket);
  CHECK(next->handle.key == "4:127.0.0.1:0");
  co_await goes_on(both);
  CHECK(both.there.rest().empty());
}

ASYNC_TEST("descriptors find their messages, and those that have none are closed") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw_peer both(executor);
  auto first = make_channel_pair();
  auto second = make_channel_pair();
  both.there.write("\"plain\"\n", {first.first.get(), second.first.get()});
  auto next = co_await both.here.receive();
  CHECK(next->value == json("plain"));
  CHECK_FALSE(next->handle);
  both.there.write(envelope("net.Socket", "1"));
  auto line = co_await both.there.line();
  CHECK(line == nack);

  // two of each in one write; and one whose message comes byte by byte
  both.there.write(envelope("net.Socket", "1") + envelope("net.Socket", "2"), {first.first.get(), second.first.get()});
  for (int number = 1; number <= 2; ++number) {
    line = co_await both.there.line();
    CHECK(line == ack);
    next = co_await both.here.receive();
    CHECK(next->value == json(number));
    CHECK(next->handle);
  }
  const std::string slow = envelope("net.Socket", "3");
  both.there.write(slow.substr(0, 1), {first.first.get()});
  for (std::size_t at = 1; at < slow.size(); ++at) {
    co_await yield(2);
    both.there.write(slow.substr(at, 1));
  }
  line = co_await both.there.line();
  CHECK(line == ack);
  next = co_await both.here.receive();
  CHECK(next->handle);

  // more than there are messages for, while one has begun
  const std::vector<int> many(200, first.first.get());
  both.there.write("\"a", many);
  both.there.write("b", many);
  both.there.write("c\"\n");
  next = co_await both.here.receive();
  CHECK(next->value == json("abc"));
  co_await goes_on(both);
}

ASYNC_TEST("a handle is refused when this process has no descriptor left for it") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw_peer both(executor);
  auto ends = make_channel_pair();
  {
    const intercept<&system::calls::recvmsg> full([](auto real, int fd, msghdr* message, int flags) {
      message->msg_controllen = 0;  // as the kernel does it: the descriptor is gone, the bytes are there
      return real(fd, message, flags);
    });
    both.there.write(envelope("net.Socket", "1"), {ends.first.get()});
    const auto line = co_await both.there.line();
    CHECK(line == nack);
  }
  both.there.write(envelope("net.Socket", "1"), {ends.first.get()});
  const auto line = co_await both.there.line();
  CHECK(line == ack);
}

ASYNC_TEST("handles that come without waiting for an answer are taken up to a limit, and then refused") {
  const auto executor = co_await asio::this_coro::executor;
  node_options options;
  options.max_handles = 4;
  against_raw_peer both(executor, options);
  auto ends = make_channel_pair();
  for (int index = 0; index < 20; ++index) {
    both.there.write(envelope("net.Socket", std::to_string(index)), {ends.first.get()});
    co_await yield(3);
  }
  int taken = 0;
  for (int answers = 0; answers < 20; ++answers) {
    while (both.there.rest().empty()) {
      const auto next = co_await both.here.receive();
      REQUIRE(next.has_value());
      ++taken;
      co_await yield(3);
    }
    co_await both.there.line();
  }
  CHECK(taken >= 4);
  co_await yield(5);
  for (;;) {
    both.there.write("\"on\"\n");
    const auto next = co_await both.here.receive();
    if (next->value == json("on")) break;
  }
}

ASYNC_TEST("sockets are counted by their key until they are closed, however they were closed") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw_peer both(executor);
  auto ends = make_channel_pair();
  const std::string count = R"({"cmd":"NODE_SOCKET_GET_COUNT","key":"k"})" "\n";
  const std::string notify = R"({"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"k"})" "\n";
  const json all_closed = parsed(R"({"cmd":"NODE_SOCKET_ALL_CLOSED","key":"k"})");
  both.there.write(count + notify);
  auto line = co_await both.there.line();
  CHECK(parsed(line) == parsed(R"({"cmd":"NODE_SOCKET_COUNT","count":0,"key":"k"})"));
  line = co_await both.there.line();
  CHECK(parsed(line) == all_closed);

  std::vector<node_message> held;
  for (int index = 0; index < 2; ++index) {
    both.there.write(envelope("net.Socket", "1", R"(,"key":"k")"), {ends.first.get()});
    line = co_await both.there.line();
    CHECK(line == ack);
    auto next = co_await both.here.receive();
    held.push_back(std::move(*next));
  }
  both.there.write(count);
  line = co_await both.there.line();
  CHECK(parsed(line) == parsed(R"({"cmd":"NODE_SOCKET_COUNT","count":2,"key":"k"})"));
  both.there.write(notify + notify);
  auto socket = std::move(held.back().handle.object).as<asio::local::stream_protocol::socket>(executor);
  held.pop_back();
  socket.close();
  // Its number goes to another socket, which is none of Node's.
  auto other = make_channel_pair();
  both.there.write(count);
  line = co_await both.there.line();
  CHECK(parsed(line) == parsed(R"({"cmd":"NODE_SOCKET_COUNT","count":1,"key":"k"})"));
  held.clear();
  line = co_await both.there.line();
  CHECK(parsed(line) == all_closed);
  for (const char* wrong : {R"({"cmd":"NODE_SOCKET_GET_COUNT"})", R"({"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":5})"}) {
    both.there.write(std::string(wrong) + "\n");
  }
  co_await goes_on(both);
}

ASYNC_TEST("internal messages of all kinds are no messages of the application") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw_peer both(executor);
  auto ends = make_channel_pair();
  for (const char* line : {R"({"cmd":"NODE_CLUSTER","act":"newconn"})", R"({"cmd":"NODE_DEBUG_ENABLED"})",
                           R"({"cmd":"NODE_WHATEVER","msg":{"cmd":"NODE_HANDLE"}})"}) {
    both.there.write(std::string(line) + "\n");
    both.there.write(envelope("net.Native", line), {ends.first.get()});
    const auto answer = co_await both.there.line();
    CHECK(answer == ack);
  }
  both.there.write(envelope("net.Native", ack), {ends.first.get()});
  const auto answer = co_await both.there.line();
  CHECK(answer == ack);
  for (const char* line :
       {R"({"cmd":"NODE_"})", R"({"cmd":5})", R"("NODE_X")", R"(["NODE_X"])", R"({"cmd":"node_x"})"}) {
    both.there.write(std::string(line) + "\n");
    const auto next = co_await both.here.receive();
    CHECK(next->value == parsed(line));
  }
  co_await goes_on(both);
}

ASYNC_TEST("a peer that asks and asks and does not read has its channel ended") {
  const auto executor = co_await asio::this_coro::executor;
  node_options options;
  options.max_message = 10'000;
  options.high_water = 10'000;
  against_raw_peer both(executor, options);
  const std::string key(5000, 'k');
  const std::string asked = R"({"cmd":"NODE_SOCKET_GET_COUNT","key":")" + key + "\"}\n";
  std::size_t at = 0;
  for (int turn = 0; turn < 20'000 && both.here.is_connected(); ++turn) {
    at += both.there.write_some(std::string_view(asked).substr(at));
    if (at == asked.size()) at = 0;
    co_await yield();
  }
  CHECK_FALSE(both.here.is_connected());
  const auto error = co_await error_of(both.here.receive());
  CHECK(error == std::error_code(ENOBUFS, std::system_category()));
}

ASYNC_TEST("an end in the middle of a message is told from one between two") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw_peer torn(executor);
  torn.there.write("1\n\"cut o");
  torn.there.close();
  const auto first = co_await torn.here.receive();
  CHECK(first->value == json(1));
  const auto text = co_await text_of(torn.here.receive());
  CHECK(text == "receive: in the middle of a message: the peer closed the channel");

  against_raw_peer reset(executor);
  const json unread = 1;
  co_await reset.here.send(unread);
  reset.there.close();  // with what it has not read: ECONNRESET
  const auto end = co_await reset.here.receive();
  CHECK_FALSE(end.has_value());
}

}  // namespace
}  // namespace cohort::test::node_hostile_test
