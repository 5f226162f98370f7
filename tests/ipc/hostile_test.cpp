// SPDX-License-Identifier: BSL-1.0
// What no correct peer sends. The harness counts what is left open behind it.
#include <exception>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <sys/eventfd.h>

#include "channels.hpp"
#include "raw_end.hpp"

namespace cohort::test::hostile_test {

/// A message with a codec of its own, which fails in ways of its own.
struct moody {
  std::uint8_t mood = 0;
};

}  // namespace cohort::test::hostile_test

template <>
struct cohort::codec<cohort::test::hostile_test::moody> {
  static void encode(writer& out, const test::hostile_test::moody& m) {
    if (m.mood == 99) throw std::runtime_error("not today");
    out.put(m.mood);
  }
  static void decode(reader& in, test::hostile_test::moody& m) {
    m.mood = in.get<std::uint8_t>();
    if (m.mood == 1) throw std::runtime_error("no good");
    if (m.mood == 2) throw 42;
    if (m.mood == 3) throw_error("moody", errc::malformed);
  }
  static constexpr std::uint64_t shape() { return custom_shape("a mood"); }
  static constexpr std::size_t fixed_size = 1;
};

namespace cohort::test::hostile_test {
namespace {

using wire::kind;

/// Whether the whole channel has ended with this error: for all operations, here and on the other side.
template <class Out, class In>
asio::awaitable<bool> has_ended(against_raw<Out, In>& both, errc with) {
  auto code = co_await error_of(both.here.receive());
  CHECK(code == with);
  code = co_await error_of(both.here.receive_handle());
  CHECK(code == with);
  code = co_await error_of(both.here.receive());  // again
  CHECK(code == with);
  co_return code == with && !both.here.is_open() && both.there.at_end();
}

asio::awaitable<void> expect_malformed(std::string bytes) {
  against_raw<> both(co_await asio::this_coro::executor);
  both.there.write(talking_hello() + bytes);
  const bool ended = co_await has_ended(both, errc::malformed);
  CHECK(ended);
  const auto code = co_await error_of(both.here.send<number>(1u));
  CHECK(code == errc::malformed);
  CHECK_THROWS_AS(both.here.post(number{1}), std::system_error);
}

ASYNC_TEST("a header that no correct peer sends ends the channel") {
  const std::string good = frame(kind::message, number_payload(1));
  for (const auto& [at, value] : {std::pair{2, 3}, {3, 1}, {4, 0}, {4, 2}, {5, 0}, {5, 11}, {5, 1}, {6, 1}, {7, 1}}) {
    std::string bad = good;
    bad[static_cast<std::size_t>(at)] = static_cast<char>(value);
    co_await expect_malformed(bad);
  }
}

ASYNC_TEST("a bad header is not waited out: its payload need not come") {
  std::string bad = frame(kind::message, "x");
  bad[3] = '\x7f';
  bad.resize(wire::header_size);
  co_await expect_malformed(bad);
}

ASYNC_TEST("messages in front of bad bytes are delivered, those behind are not") {
  against_raw<> both(co_await asio::this_coro::executor);
  std::string bad = frame(kind::message, number_payload(3));
  bad[7] = 1;
  both.there.write(talking_hello() + frame(kind::message, number_payload(1)) + frame(kind::message, number_payload(2)) +
                   bad + frame(kind::message, number_payload(4)));
  auto heard = co_await next(both.here);
  CHECK(heard == "1");
  heard = co_await next(both.here);
  CHECK(heard == "2");
  const bool ended = co_await has_ended(both, errc::malformed);
  CHECK(ended);
}

ASYNC_TEST("a message without a whole type, or with an empty piece, ends the channel") {
  co_await expect_malformed(frame(kind::message));
  co_await expect_malformed(frame(kind::message, "x"));
  co_await expect_malformed(frame(kind::piece));
  co_await expect_malformed(frame(kind::piece, "xyz") + frame(kind::message));
}

ASYNC_TEST("a type that was not announced ends the channel") {
  for (const std::uint16_t type : {std::uint16_t{3}, std::uint16_t{wire::first_envelope - 1}}) {
    against_raw<> both(co_await asio::this_coro::executor);
    both.there.write(talking_hello() + frame(kind::message, payload_of(type, number{1})) +
                     frame(kind::message, number_payload(2)));
    const auto what = co_await text_of(both.here.receive());
    CHECK(what == "receive: message of type " + std::to_string(type) + ": malformed data from the peer");
    const bool ended = co_await has_ended(both, errc::malformed);
    CHECK(ended);
  }
}

ASYNC_TEST("a payload that is no message of its type ends the channel") {
  co_await expect_malformed(frame(kind::message, little(0, 2)));                    // no number
  co_await expect_malformed(frame(kind::message, number_payload(1) + "x"));         // trailing
  co_await expect_malformed(frame(kind::message, little(1, 2) + little(1000, 4)));  // a string that is not there
  co_await expect_malformed(frame(kind::message, little(1, 2) + little(~0u, 4) + "x"));
  co_await expect_malformed(frame(kind::piece, little(1, 2) + little(5, 4)) + frame(kind::message, "four"));
  co_await expect_malformed(frame(kind::message, little(1, 2) + little(1000, 4)) +
                            frame(kind::message, number_payload(1)));  // nothing behind it is taken either
}

ASYNC_TEST("pieces beyond max_message end the channel, and are not collected") {
  const auto executor = co_await asio::this_coro::executor;
  channel_options small;
  small.max_message = 10'000;
  against_raw<> both(executor, small);
  both.there.write(talking_hello() + frame(kind::piece, payload_of(1, text_of_size(9'000))));
  both.there.write(frame(kind::piece, std::string(1'001, 'x')));
  const bool ended = co_await has_ended(both, errc::message_too_large);
  CHECK(ended);
}

ASYNC_TEST("a handle's message beyond max_message ends the channel") {
  channel_options small;
  small.max_message = 100;
  against_raw<> both(co_await asio::this_coro::executor, small);
  const descriptor object(::eventfd(0, EFD_CLOEXEC));
  both.there.write(talking_hello());
  both.there.write(
      frame(kind::handles, {}, 1) + lease_frame(1, handle_kind::descriptor, payload_of(1, text_of_size(101))),
      {object.get()});
  const bool ended = co_await has_ended(both, errc::message_too_large);
  CHECK(ended);
}

ASYNC_TEST("what follows a goodbye ends the channel") {
  const auto executor = co_await asio::this_coro::executor;
  const std::string goodbye = frame(kind::goodbye), message = frame(kind::message, number_payload(1));
  for (const std::string& bytes : {goodbye + message, goodbye + frame(kind::piece, "xyz"), goodbye + goodbye,
                                   frame(kind::piece, payload_of(1, text{"begun"})) + goodbye}) {
    against_raw<> both(executor);
    both.there.write(talking_hello() + bytes);
    const auto code = co_await error_of(both.here.receive());
    CHECK(code == errc::malformed);
    CHECK(both.there.at_end());
  }
  against_raw<> both(executor);
  const descriptor object(::eventfd(0, EFD_CLOEXEC));
  both.there.write(talking_hello() + goodbye);
  const auto heard = co_await next(both.here);
  CHECK(heard == "(end)");
  both.there.write(frame(kind::handles, {}, 1) + lease_frame(1, handle_kind::descriptor, number_payload(1)),
                   {object.get()});
  const number with{1};  // receive() is at its end and looks no further, but who waits for an answer does
  const auto code = co_await error_of(both.here.send_handle(with, object));
  CHECK(code == errc::malformed);
}

ASYNC_TEST("descriptors that are not as announced end the channel, and are closed") {
  const descriptor object(::eventfd(0, EFD_CLOEXEC));
  const std::string lease = lease_frame(1, handle_kind::descriptor, number_payload(1));
  const std::string one = frame(kind::handles, {}, 1), two = frame(kind::handles, {}, 2);
  const std::vector<int> none, single{object.get()}, pair{object.get(), object.get()};
  const std::vector<std::pair<std::string, std::vector<int>>> writes{
      {lease, none},                                                   // a lease without a descriptor
      {one + lease, none},                                             // announced and not there
      {lease, single},                                                 // there and not announced
      {two + lease, single},                                           // fewer
      {one + lease, pair},                                             // more
      {one + lease + lease, single},                                   // a lease too many
      {one + one, single},                                             // announced twice
      {two + lease + one + lease, pair},                               // the first announcement is not used up
      {frame(kind::message, number_payload(1)), single},               // with a message
      {frame(kind::message, text_of_size(100).value), single},         // likewise
      {frame(kind::message, number_payload(1)).substr(0, 3), single},  // with a frame that is still to come
  };
  for (std::size_t i = 0; i < writes.size(); ++i) {
    against_raw<> both(co_await asio::this_coro::executor);
    both.there.write(talking_hello());
    both.there.write(writes[i].first, writes[i].second);
    if (i + 1 == writes.size()) both.there.write(frame(kind::message, number_payload(1)).substr(3), single);
    // whatever came in front of it may be received
    std::error_code code;
    for (int tries = 0; tries < 2 && !code; ++tries) code = co_await error_of(both.here.receive());
    CHECK_MESSAGE(code == errc::malformed, "write ", i);
    CHECK(both.there.at_end());
  }
}

ASYNC_TEST("descriptors with each byte of a frame that never ends do not pile up") {
  against_raw<> both(co_await asio::this_coro::executor);
  const descriptor object(::eventfd(0, EFD_CLOEXEC));
  both.there.write(talking_hello());
  const std::string message = frame(kind::message, text_of_size(1000).value);
  for (std::size_t i = 0; i < 3; ++i) both.there.write(message.substr(i, 1), std::vector<int>(100, object.get()));
  const bool ended = co_await has_ended(both, errc::malformed);
  CHECK(ended);
}

ASYNC_TEST("descriptors with the rest of a piece end the channel, and are closed") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw<> both(executor);
  const descriptor object(::eventfd(0, EFD_CLOEXEC));
  const std::string piece = frame(kind::piece, text_of_size(1000).value);
  both.there.write(talking_hello() + piece.substr(0, 500));
  outcome_of<bool> ending(executor, has_ended(both, errc::malformed));
  co_await yield(5);
  CHECK_FALSE(ending.is_there());
  both.there.write(piece.substr(500), {object.get()});
  const bool ended = co_await ending.get();
  CHECK(ended);
}

ASYNC_TEST("a peer that ends in the rest of a piece has torn a message") {
  const auto executor = co_await asio::this_coro::executor;
  for (const std::size_t size : {wire::header_size, wire::header_size + 1, std::size_t{500}}) {
    against_raw<> both(executor);
    both.there.write(talking_hello() + frame(kind::piece, text_of_size(1000).value).substr(0, size));
    outcome_of<std::string> ending(executor, next(both.here));
    co_await yield(5);
    both.there.close();
    const auto code = co_await error_of(ending.get());
    CHECK(code == errc::peer_closed);
  }
}

ASYNC_TEST("announced descriptors that no lease takes are closed with the channel") {
  against_raw<> both(co_await asio::this_coro::executor);
  const descriptor object(::eventfd(0, EFD_CLOEXEC));
  both.there.write(talking_hello());
  both.there.write(frame(kind::handles, {}, 3) + frame(kind::message, number_payload(1)),
                   std::vector<int>(3, object.get()));
  const auto heard = co_await next(both.here);
  CHECK(heard == "1");
}

ASYNC_TEST("handles that nobody takes stop the reading, so that they cannot fill the descriptor table") {
  const auto executor = co_await asio::this_coro::executor;
  channel_options few;
  few.max_leases = 4;
  against_raw<> both(executor, few);
  const descriptor object(::eventfd(0, EFD_CLOEXEC));
  both.there.write(talking_hello());
  outcome_of<std::optional<any_message>> receiving(executor, both.here.receive());
  for (std::uint64_t id = 1; id <= 20; ++id) {
    both.there.write(frame(kind::handles, {}, 1) + lease_frame(id, handle_kind::descriptor, number_payload(id)),
                     {object.get()});
  }
  both.there.write(frame(kind::message, number_payload(77)));
  co_await yield(50);
  CHECK_FALSE(receiving.is_there());
  for (std::uint64_t id = 1; id <= 20; ++id) {
    const auto got = co_await both.here.receive_handle();
    REQUIRE(got);
    CHECK(as_string(got->message) == std::to_string(id));
  }
  const auto message = co_await receiving.get();
  CHECK(as_string(message.value()) == "77");
}

ASYNC_TEST("declining handles lets the reading go on") {
  const auto executor = co_await asio::this_coro::executor;
  channel_options few;
  few.max_leases = 1;
  against_raw<> both(executor, few);
  const descriptor object(::eventfd(0, EFD_CLOEXEC));
  both.there.write(talking_hello());
  outcome_of<std::optional<any_message>> receiving(executor, both.here.receive());
  for (std::uint64_t id = 1; id <= 5; ++id) {
    both.there.write(frame(kind::handles, {}, 1) + lease_frame(id, handle_kind::descriptor, number_payload(id)),
                     {object.get()});
  }
  both.there.write(frame(kind::message, number_payload(77)));
  co_await yield(20);
  CHECK_FALSE(receiving.is_there());
  both.here.decline_handles();
  const auto message = co_await receiving.get();
  CHECK(as_string(message.value()) == "77");
  co_await yield(2);
  const auto answers = both.there.frames();
  CHECK(answers.size() == 5);
  for (const auto& each : answers) CHECK(each.first == kind::refused);
}

ASYNC_TEST("an answer to a handle that was not given ends the channel") {
  co_await expect_malformed(frame(kind::adopted, little(0, 8)));
  co_await expect_malformed(frame(kind::adopted, little(1, 8)));
  co_await expect_malformed(frame(kind::refused, little(~std::uint64_t{0}, 8) + "\1"));
}

ASYNC_TEST("an answer to a handle that is not with the peer yet ends the channel") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw<> both(executor);
  const text large = text_of_size(1024 * 1024);
  outcome_of<void> sending(executor, both.here.send(large));
  descriptor object(::eventfd(0, EFD_CLOEXEC));
  const number with{1};
  outcome_of<void> giving(executor, both.here.send_handle(with, std::move(object)));
  co_await yield(5);  // the lease waits behind the message
  both.there.write(talking_hello() + frame(kind::adopted, little(1, 8)));
  const auto code = co_await error_of(giving.get());
  CHECK(code == errc::malformed);
  CHECK(object);  // or its number, still to be sent, could become that of another file
  co_await error_of(sending.get());
}

ASYNC_TEST("a second answer to a handle ends the channel") {
  for (const bool refused_first : {false, true}) {
    const auto executor = co_await asio::this_coro::executor;
    against_raw<> both(executor);
    descriptor object(::eventfd(0, EFD_CLOEXEC));
    const number with{1};
    outcome_of<void> giving(executor, both.here.send_handle(with, std::move(object)));
    co_await yield(2);
    const std::string yes = frame(kind::adopted, little(1, 8)), no = frame(kind::refused, little(1, 8) + "\1");
    both.there.write(talking_hello() + (refused_first ? no + yes : yes + no));
    const auto code = co_await error_of(giving.get());
    CHECK(code == (refused_first ? make_error_code(errc::handle_refused) : std::error_code()));
    CHECK(static_cast<bool>(object) == refused_first);
    const bool ended = co_await has_ended(both, errc::malformed);
    CHECK(ended);
  }
}

ASYNC_TEST("a reason to refuse that is not known counts as a refusal") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw<> both(executor);
  descriptor object(::eventfd(0, EFD_CLOEXEC));
  const number with{1};
  outcome_of<void> giving(executor, both.here.send_handle(with, std::move(object)));
  co_await yield(2);
  both.there.write(talking_hello() + frame(kind::refused, little(1, 8) + "\xee"));
  const auto code = co_await error_of(giving.get());
  CHECK(code == errc::handle_refused);
  CHECK(object);
}

ASYNC_TEST("a handle whose message does not decode ends the channel, and is closed") {
  const auto executor = co_await asio::this_coro::executor;
  const descriptor object(::eventfd(0, EFD_CLOEXEC));
  for (const std::string& message : {little(0, 2), number_payload(1) + "x", little(3, 2) + "x"}) {
    against_raw<> both(executor);
    both.there.write(talking_hello());
    both.there.write(frame(kind::handles, {}, 2) + lease_frame(1, handle_kind::descriptor, message) +
                         lease_frame(2, handle_kind::descriptor, number_payload(1)),
                     {object.get(), object.get()});
    const auto code = co_await error_of(both.here.receive_handle());
    CHECK(code == errc::malformed);
    const bool ended = co_await has_ended(both, errc::malformed);
    CHECK(ended);
    const auto answers = both.there.frames();
    CHECK(answers.empty());  // it was not adopted
  }
}

ASYNC_TEST("a kind of handle that does not exist is a wrong kind") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw<> both(executor);
  const descriptor object(::eventfd(0, EFD_CLOEXEC));
  both.there.write(talking_hello());
  both.there.write(frame(kind::handles, {}, 1) + lease_frame(1, static_cast<handle_kind>(200), number_payload(1)) +
                       frame(kind::message, number_payload(2)),
                   {object.get()});
  const auto heard = co_await next(both.here);
  CHECK(heard == "2");
  co_await yield(2);
  const auto answers = both.there.frames();
  REQUIRE(answers.size() == 1);
  CHECK(answers[0] == std::pair(kind::refused, little(1, 8) + little(3, 1)));
}

ASYNC_TEST("handles that were taken before the channel broke are said to be taken") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw<> both(executor);
  const descriptor object(::eventfd(0, EFD_CLOEXEC));
  std::string bad = frame(kind::message, number_payload(1));
  bad[7] = 1;
  both.there.write(talking_hello());
  both.there.write(frame(kind::handles, {}, 1) + lease_frame(1, handle_kind::descriptor, number_payload(1)),
                   {object.get()});
  both.there.write(bad);
  const auto taken = co_await both.here.receive_handle();
  CHECK(taken);
  const auto code = co_await error_of(both.here.receive());  // without a turn in between
  CHECK(code == errc::malformed);
  const auto answers = both.there.frames();
  REQUIRE(answers.size() == 1);
  CHECK(answers[0] == std::pair(kind::adopted, little(1, 8)));
}

ASYNC_TEST("a codec of the user's may throw anything, and that ends the channel") {
  const auto executor = co_await asio::this_coro::executor;
  for (const std::uint8_t mood : {std::uint8_t{1}, std::uint8_t{2}, std::uint8_t{3}}) {
    connected<moody, moody> both(executor);
    co_await both.here.send<moody>(mood);
    co_await both.here.send<moody>(std::uint8_t{0});
    for (int tries = 0; tries < 2; ++tries) {
      std::string thrown;
      try {
        co_await both.there.receive();
      } catch (const std::system_error& error) {
        thrown = error.code() == errc::malformed ? "malformed" : error.what();
      } catch (const std::exception& error) {
        thrown = error.what();
      } catch (int number) {
        thrown = std::to_string(number);
      }
      CHECK(thrown == (mood == 1 ? "no good" : mood == 2 ? "42" : "malformed"));
    }
    CHECK_FALSE(both.there.is_open());
    const auto end = co_await both.here.receive();
    CHECK_FALSE(end);
  }
}

ASYNC_TEST("a codec of the user's that does not encode sends nothing, and the channel goes on") {
  const auto executor = co_await asio::this_coro::executor;
  connected<std::variant<moody, number>, std::variant<moody, number>> both(executor);
  auto what = co_await text_of(both.here.send<moody>(std::uint8_t{99}));
  CHECK(what == "not today");
  CHECK_THROWS_AS(both.here.post(moody{99}), std::runtime_error);
  descriptor object(::eventfd(0, EFD_CLOEXEC));
  const moody bad{99};
  what = co_await text_of(both.here.send_handle(bad, std::move(object)));
  CHECK(what == "not today");
  CHECK(object);
  co_await both.here.send<number>(5u);
  const auto got = co_await both.there.receive();
  CHECK(std::get<number>(got.value()).value == 5);
}

}  // namespace
}  // namespace cohort::test::hostile_test
