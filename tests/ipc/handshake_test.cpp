// SPDX-License-Identifier: BSL-1.0
// What two sides that do not know the same messages say to each other.
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <sys/eventfd.h>

#include "channels.hpp"
#include "raw_end.hpp"

namespace cohort::test::handshake_test {

struct old_only {
  std::uint32_t value;
};

struct new_only {
  std::string value;
};

namespace {

using old_build = std::variant<old_only, number, text>;
using new_build = std::variant<text, new_only, number>;

/// Two programs built from two versions of a protocol.
struct two_builds {
  explicit two_builds(const asio::any_io_executor& executor) : two_builds(executor, make_channel_pair()) {}

  channel<old_build, old_build> old_side;
  channel<new_build, new_build> new_side;

 private:
  two_builds(const asio::any_io_executor& executor, std::pair<descriptor, descriptor> ends)
      : old_side(executor, std::move(ends.first)), new_side(executor, std::move(ends.second)) {}
};

ASYNC_TEST("two builds of a program speak in the messages that they share") {
  two_builds both(co_await asio::this_coro::executor);
  co_await both.old_side.send<number>(1u);
  co_await both.old_side.send<text>("two");
  co_await both.new_side.send<number>(3u);
  co_await both.new_side.send<text>("four");
  auto to_new = co_await both.new_side.receive();
  CHECK(std::get<number>(to_new.value()).value == 1);
  to_new = co_await both.new_side.receive();
  CHECK(std::get<text>(to_new.value()).value == "two");
  auto to_old = co_await both.old_side.receive();
  CHECK(std::get<number>(to_old.value()).value == 3);
  to_old = co_await both.old_side.receive();
  CHECK(std::get<text>(to_old.value()).value == "four");
}

ASYNC_TEST("a message that the peer does not know is not sent, once that is known") {
  two_builds both(co_await asio::this_coro::executor);
  co_await both.new_side.send<number>(1u);
  co_await both.old_side.receive();
  auto code = co_await error_of(both.old_side.send<old_only>(2u));
  CHECK(code == errc::unknown_message);
  auto what = co_await text_of(both.old_side.send<old_only>(2u));
  CHECK(what == "send: cohort::test::handshake_test::old_only: the message is not known to both sides");
  CHECK_THROWS_AS(both.old_side.post(old_only{2}), std::system_error);
  const old_only with{3};
  descriptor object(::eventfd(0, EFD_CLOEXEC));
  what = co_await text_of(both.old_side.send_handle(with, std::move(object)));
  CHECK(what == "send_handle: cohort::test::handshake_test::old_only: the message is not known to both sides");
  CHECK(object);

  co_await both.old_side.send<number>(4u);
  const auto got = co_await both.new_side.receive();
  CHECK(std::get<number>(got.value()).value == 4);
}

ASYNC_TEST("a message that the peer does not know, and that was sent before this was known, is skipped there") {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  channel<old_build, old_build> old_side(executor, std::move(ends.first));
  co_await old_side.send<number>(1u);
  co_await old_side.send<old_only>(2u);
  co_await old_side.send<text>("three");
  channel<new_build, new_build> new_side(executor, std::move(ends.second));
  auto got = co_await new_side.receive();
  CHECK(std::get<number>(got.value()).value == 1);
  const auto what = co_await text_of(new_side.receive());
  CHECK(what == "receive: cohort::test::handshake_test::old_only: the message is not known to both sides");
  got = co_await new_side.receive();
  CHECK(std::get<text>(got.value()).value == "three");
}

ASYNC_TEST("a handle with a message that the peer does not know comes back") {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  channel<old_build, old_build> old_side(executor, std::move(ends.first));
  descriptor object(::eventfd(5, EFD_CLOEXEC));
  const old_only with{1};
  outcome_of<void> giving(executor, old_side.send_handle(with, std::move(object)));
  co_await yield(3);
  channel<new_build, new_build> new_side(executor, std::move(ends.second));
  auto code = co_await error_of(new_side.receive_handle());
  CHECK(code == errc::unknown_message);
  code = co_await error_of(giving.get());
  CHECK(code == errc::unknown_message);
  eventfd_t value = 0;
  CHECK(::eventfd_read(object.get(), &value) == 0);
  CHECK(value == 5);

  const number known{2};
  outcome_of<void> again(executor, old_side.send_handle(known, std::move(object)));
  const auto got = co_await new_side.receive_handle();
  CHECK(got);
  co_await again.get();
}

ASYNC_TEST("one who only sends hears what the peer understands") {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  channel<old_build, old_build> old_side(executor, std::move(ends.first));
  channel<new_build, new_build> new_side(executor, std::move(ends.second));
  std::error_code code;
  for (int i = 0; i < 3 && !code; ++i) code = co_await error_of(old_side.send<old_only>(1u));
  CHECK(code == errc::unknown_message);
}

ASYNC_TEST("one who only posts hears what the peer understands") {
  two_builds both(co_await asio::this_coro::executor);
  CHECK(both.old_side.post(number{1}));
  co_await yield(2);
  CHECK_THROWS_AS(both.old_side.post(old_only{1}), std::system_error);
}

ASYNC_TEST("two single types that differ end the channel on both sides, naming both") {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  channel<text, number> here(executor, std::move(ends.first));
  channel<number, new_only> there(executor, std::move(ends.second));
  auto what = co_await text_of(there.receive());
  CHECK(what ==
        "channel: this side receives cohort::test::handshake_test::new_only, the peer sends cohort::test::text: the two "
        "sides define the message differently");
  what = co_await text_of(here.receive());
  CHECK(what ==
        "channel: this side sends cohort::test::text, the peer receives cohort::test::handshake_test::new_only: the two "
        "sides define the message differently");
  auto code = co_await error_of(here.send<text>("lost"));
  CHECK(code == errc::schema_mismatch);
  code = co_await error_of(there.receive_handle());
  CHECK(code == errc::schema_mismatch);
  CHECK_FALSE(here.is_open());
}

ASYNC_TEST("a sender that waits hears of a mismatch") {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  channel<text, number> here(executor, std::move(ends.first));
  const text large = text_of_size(1024 * 1024);
  outcome_of<void> sending(executor, here.send(large)), flushing(executor, here.flush());
  outcome_of<std::optional<number>> receiving(executor, here.receive());
  co_await yield(5);
  raw_end there(std::move(ends.second));
  there.write(hello_frame<number, new_only>());
  auto code = co_await error_of(sending.get());
  CHECK(code == errc::schema_mismatch);
  code = co_await error_of(flushing.get());
  CHECK(code == errc::schema_mismatch);
  code = co_await error_of(receiving.get());
  CHECK(code == errc::schema_mismatch);
}

ASYNC_TEST("a hello of another wire version ends the channel") {
  against_raw<> both(co_await asio::this_coro::executor);
  std::string hello = talking_hello();
  hello[wire::header_size] = 2;
  both.there.write(hello);
  const auto what = co_await text_of(both.here.receive());
  CHECK(what.starts_with("channel: the peer speaks wire version 2, this side 1: "));
  const auto code = co_await error_of(both.here.receive());
  CHECK(code == errc::schema_mismatch);
  CHECK(both.there.at_end());
}

ASYNC_TEST("a hello of another version may look like anything behind its version") {
  for (const std::string& rest : {std::string(), std::string(1000, '\xff')}) {
    against_raw<> both(co_await asio::this_coro::executor);
    both.there.write(frame(wire::kind::hello, little(9, 2) + rest));
    const auto code = co_await error_of(both.here.receive());
    CHECK(code == errc::schema_mismatch);
  }
}

ASYNC_TEST("a hello that is missing, comes twice, or is not one is malformed") {
  const auto executor = co_await asio::this_coro::executor;
  const std::string good = talking_hello(), message = frame(wire::kind::message, number_payload(1));
  const std::string payload = good.substr(wire::header_size);
  for (const std::string& bytes : {
           message,                                                          // no hello
           frame(wire::kind::adopted, little(1, 8)),                         // no hello either
           good + good,                                                      // twice
           frame(wire::kind::hello),                                         // empty
           frame(wire::kind::hello, payload + "!"),                          // more than it holds
           frame(wire::kind::hello, payload.substr(0, payload.size() - 1)),  // less
           frame(wire::kind::hello, payload.substr(0, 8) + std::string(100, '\xff')),
       }) {
    against_raw<> both(executor);
    both.there.write(bytes);
    const auto code = co_await error_of(both.here.receive());
    CHECK(code == errc::malformed);
    CHECK(both.there.at_end());
  }
}

ASYNC_TEST("a hello with more, or longer, names than it may have is malformed") {
  const auto executor = co_await asio::this_coro::executor;
  hello many = make_hello<any_message, any_message>(1000), long_name = many;
  for (std::size_t i = 0; i <= max_announced; ++i) many.understands.push_back({i, "x"});
  long_name.sends.push_back({1, std::string(max_announced_name + 1, 'x')});
  for (const hello& each : {many, long_name}) {
    against_raw<> both(executor);
    byte_buffer payload;
    encode(payload, each);
    both.there.write(frame(wire::kind::hello, payload.view()));
    const auto code = co_await error_of(both.here.receive());
    CHECK(code == errc::malformed);
  }
}

ASYNC_TEST("nobody waits for the hello of the other") {
  against_raw<> both(co_await asio::this_coro::executor);
  co_await both.here.send<number>(1u);
  both.here.post(number{2});
  co_await both.here.disconnect();
  const auto sent = both.there.frames();
  REQUIRE(sent.size() == 3);
  CHECK(sent[0] == std::pair(wire::kind::message, number_payload(1)));
  CHECK(sent[1] == std::pair(wire::kind::message, number_payload(2)));
  CHECK(sent[2].first == wire::kind::goodbye);
}

ASYNC_TEST("a peer that takes no message of any size gets none") {
  against_raw<> both(co_await asio::this_coro::executor);
  both.there.write(hello_frame<any_message, any_message>(0));
  both.there.write(frame(wire::kind::message, number_payload(1)));
  co_await both.here.receive();
  auto code = co_await error_of(both.here.send<nothing>());
  CHECK(code == errc::message_too_large);
  const auto sent = both.there.frames();
  CHECK(sent.empty());
}

}  // namespace
}  // namespace cohort::test::handshake_test
