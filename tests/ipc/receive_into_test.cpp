// SPDX-License-Identifier: BSL-1.0
// Receiving into objects that keep their memory, one message or many at a time, and sending from where a message lies.
#include <array>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <unistd.h>

#include "../support/cancellation.hpp"
#include "../support/fault.hpp"
#include "channels.hpp"
#include "raw_end.hpp"

namespace cohort::test::receive_into_test {
namespace {

/// A large part in the middle.
struct film {
  std::uint64_t number = 0;
  std::string frames;
  std::vector<std::string> names;
};

struct carrier {
  std::string label;
  handle<descriptor> object;
};

using sent = std::variant<film, number, carrier>;
using both = connected<sent, sent>;
using cinema = against_raw<sent, sent>;

film film_of(std::size_t size, unsigned seed = 0) {
  film result;
  result.number = seed;
  result.frames = text_of_size(size + 6, seed).value;
  result.names = {"first", std::string(100, 'n'), ""};
  return result;
}

bool same(const film& a, const film& b) { return a.number == b.number && a.frames == b.frames && a.names == b.names; }

bool holds(const sent& message, const film& wanted) {
  const film* const got = std::get_if<film>(&message);
  return got != nullptr && same(*got, wanted);
}

/// The frames of a film, in pieces of 128 KiB.
std::string frames_of(const std::string& payload) {
  std::string stream;
  for (std::size_t at = 0; at < payload.size(); at += wire::max_frame) {
    const bool last = payload.size() - at <= wire::max_frame;
    stream += frame(last ? wire::kind::message : wire::kind::piece, payload.substr(at, wire::max_frame));
  }
  return stream;
}

std::string hello() { return hello_frame<sent, sent>(); }

asio::awaitable<void> send_films(channel<sent, sent>& to, int count, std::size_t size) {
  for (int i = 0; i < count; ++i) {
    const film each = film_of(size, static_cast<unsigned>(i));
    co_await to.send(each);
  }
  co_await to.disconnect();
}

/// Writes all of it, as the socket has room, a turn of the loop between the parts.
asio::awaitable<void> write_all(raw_end& to, std::string bytes, std::size_t part) {
  for (std::size_t at = 0; at < bytes.size(); at += part) {
    while (!to.try_write(std::string_view(bytes).substr(at, part), {})) {
      if (to.at_end()) co_return;  // the channel is broken, and reads no more
      co_await yield();
    }
    co_await yield(2);
  }
}

}  // namespace

ASYNC_TEST("messages of any size are received into one object") {
  const auto executor = co_await asio::this_coro::executor;
  both ends(executor);
  sent got;
  for (const std::size_t size : {0u, 40'000u, 10u, 131'040u, 131'072u, 900'000u, 900'001u, 40'000u, 3'000'000u, 1u}) {
    const film what = film_of(size, static_cast<unsigned>(size));
    outcome_of<void> sending(executor, ends.here.send(what));
    const bool came = co_await ends.there.receive_into(got);
    co_await sending.get();
    CHECK(came);
    CHECK(holds(got, what));
  }
  const number other{7};
  co_await ends.here.send(other);
  co_await ends.there.receive_into(got);
  CHECK(std::get<number>(got).value == 7);
  co_await ends.here.disconnect();
  const bool more = co_await ends.there.receive_into(got);
  CHECK_FALSE(more);
  CHECK(std::get<number>(got).value == 7);
}

ASYNC_TEST("an object that messages are received into keeps its memory, and large parts are read to it at once") {
  const auto executor = co_await asio::this_coro::executor;
  both ends(executor);
  sent got = film_of(500'000);
  const char* const frames = std::get<film>(got).frames.data();
  const char* const name = std::get<film>(got).names[1].data();
  const film small = film_of(10, 1), what = film_of(500'000, 2);
  co_await ends.here.send(small);
  co_await ends.there.receive_into(got);
  CHECK(holds(got, small));
  bool read_there = false;
  const intercept<&system::calls::recvmsg> watching([&](auto real, int fd, msghdr* message, int flags) {
    const auto* const to = static_cast<const char*>(message->msg_iov[0].iov_base);
    read_there = read_there || (to > frames && to < frames + 500'000);
    return real(fd, message, flags);
  });
  outcome_of<void> sending(executor, ends.here.send(what));
  co_await ends.there.receive_into(got);
  co_await sending.get();
  CHECK(holds(got, what));
  CHECK(read_there);
  CHECK(std::get<film>(got).frames.data() == frames);
  CHECK(std::get<film>(got).names[1].data() == name);
}

ASYNC_TEST("a large message that comes in any parts is received into an object") {
  const auto executor = co_await asio::this_coro::executor;
  const film what = film_of(300'000, 3);
  for (const std::size_t part : {7'001u, 65'536u, 131'071u}) {
    cinema ends(executor);
    sent got = film_of(300'000);
    const std::string stream = hello() + frames_of(payload_of(0, film_of(40'000))) + frames_of(payload_of(0, what)) +
                               frame(wire::kind::message, payload_of(1, number{5}));
    outcome_of<void> writing(executor, write_all(ends.there, stream, part));
    co_await ends.here.receive_into(got);
    co_await ends.here.receive_into(got);
    CHECK(holds(got, what));
    co_await ends.here.receive_into(got);
    CHECK(std::get<number>(got).value == 5);
    co_await writing.get();
  }
}

PLAIN_TEST("receiving into an object can be cancelled at any moment, and the message is left for the next call") {
  for (const bool into_again : {false, true}) {
    const auto points = cancel_at_every_turn([into_again](cancellation& cancelled) -> asio::awaitable<void> {
      const auto executor = co_await asio::this_coro::executor;
      both ends(executor);
      outcome_of<void> sending(executor, send_films(ends.here, 2, 600'000));
      sent first;
      co_await ends.there.receive_into(first);
      CHECK(holds(first, film_of(600'000, 0)));
      sent second;
      {
        sent abandoned = std::move(first);
        const auto came = co_await cancelled(ends.there.receive_into(abandoned));
        if (came) second = std::move(abandoned);
        if (!came && !into_again) {
          auto got = co_await ends.there.receive();
          second = std::move(got.value());
        }
        std::get<film>(abandoned = film()).frames = "gone";
      }
      if (std::get<film>(second).frames.empty()) co_await ends.there.receive_into(second);
      CHECK(holds(second, film_of(600'000, 1)));
      co_await sending.get();
    });
    CHECK(points > 2);
  }
}

ASYNC_TEST("who waits first takes a message, wherever it has been read to") {
  const auto executor = co_await asio::this_coro::executor;
  both ends(executor);
  const film what = film_of(600'000, 4), next_one = film_of(50'000, 5);
  co_await ends.here.send<number>(1u);
  co_await ends.there.receive();  // both know each other
  sent into = film_of(600'000), other;
  outcome_of<bool> reading(executor, ends.there.receive_into(into));
  co_await yield(2);
  outcome_of<bool> waiting(executor, ends.there.receive_into(other));
  outcome_of<std::optional<sent>> also(executor, ends.there.receive());
  outcome_of<void> sending(executor, ends.here.send(what));
  co_await sending.get();
  co_await ends.here.send(next_one);
  co_await ends.here.send<number>(9u);
  const bool came = co_await reading.get();
  co_await waiting.get();
  const auto last = co_await also.get();
  CHECK(came);
  const bool whole = holds(into, what) || holds(other, what) || holds(*last, what);
  CHECK(whole);
  const bool second = holds(into, next_one) || holds(other, next_one) || holds(*last, next_one);
  CHECK(second);
}

ASYNC_TEST("a message that lies about its large part is malformed, and takes no memory for what has not come") {
  const auto executor = co_await asio::this_coro::executor;
  const film what = film_of(200'000, 1);
  std::string lie = payload_of(0, what);
  lie.replace(10, 4, little(40'000'000, 4));
  cinema ends(executor);
  ends.there.write(hello() + frame(wire::kind::message, payload_of(0, film_of(10))));
  sent got;
  co_await ends.here.receive_into(got);
  outcome_of<void> writing(executor, write_all(ends.there, frames_of(lie), 100'000));
  const auto code = co_await error_of(ends.here.receive_into(got));
  CHECK(code == errc::malformed);
  CHECK(std::get<film>(got).frames.capacity() < 2'000'000);
  co_await writing.get();
}

ASYNC_TEST("a message that is too large for the receiver is refused while it comes") {
  const auto executor = co_await asio::this_coro::executor;
  channel_options options;
  options.max_message = 200'000;
  cinema ends(executor, options);
  ends.there.write(hello() + frame(wire::kind::message, payload_of(0, film_of(10))));
  sent got;
  co_await ends.here.receive_into(got);
  outcome_of<void> writing(executor, write_all(ends.there, frames_of(payload_of(0, film_of(300'000))), 100'000));
  const auto code = co_await error_of(ends.here.receive_into(got));
  CHECK(code == errc::message_too_large);
  co_await writing.get();
}

ASYNC_TEST("a peer that dies in the middle of a large message is told apart from one that says goodbye") {
  const auto executor = co_await asio::this_coro::executor;
  cinema ends(executor);
  ends.there.write(hello() + frame(wire::kind::message, payload_of(0, film_of(10))));
  sent got;
  co_await ends.here.receive_into(got);
  outcome_of<bool> receiving(executor, ends.here.receive_into(got));
  co_await write_all(ends.there, frames_of(payload_of(0, film_of(300'000))).substr(0, 140'000), 70'000);
  ends.there.close();
  const auto code = co_await error_of(receiving.get());
  CHECK(code == errc::peer_closed);
}

ASYNC_TEST("handles in messages come into an object as well") {
  const auto executor = co_await asio::this_coro::executor;
  both ends(executor);
  sent got;
  carrier what{"one", handle<descriptor>(descriptor(::dup(0)))};
  outcome_of<void> sending(executor, ends.here.send(what));
  co_await ends.there.receive_into(got);
  co_await sending.get();
  CHECK(std::get<carrier>(got).label == "one");
  CHECK(static_cast<bool>(std::get<carrier>(got).object));
  carrier large{std::string(60'000, 'l'), handle<descriptor>(descriptor(::dup(0)))};
  outcome_of<void> again(executor, ends.here.send(large));
  std::vector<sent> many;
  const auto count = co_await ends.there.receive_many(many, 10);
  co_await again.get();
  REQUIRE(count == 1);
  CHECK(std::get<carrier>(many[0]).label == large.label);
}

ASYNC_TEST("many messages are taken at once, in order, no more than are wanted, into elements that keep their memory") {
  const auto executor = co_await asio::this_coro::executor;
  both ends(executor);
  for (unsigned i = 0; i < 10; ++i) {
    const film each = film_of(100, i);
    ends.here.post(each);
  }
  co_await ends.here.disconnect();
  std::vector<sent> many;
  for (int i = 0; i < 3; ++i) many.emplace_back(film_of(100));
  const char* const memory = std::get<film>(many[0]).frames.data();
  auto count = co_await ends.there.receive_many(many, 4);
  REQUIRE(count == 4);
  REQUIRE(many.size() == 4);
  for (unsigned i = 0; i < 4; ++i) CHECK(holds(many[i], film_of(100, i)));
  CHECK(std::get<film>(many[0]).frames.data() == memory);
  count = co_await ends.there.receive_many(many, 100);
  CHECK(count == 6);
  CHECK(many.size() == 6);
  CHECK(holds(many[5], film_of(100, 9)));
  count = co_await ends.there.receive_many(many, 100);
  CHECK(count == 0);
  CHECK(many.empty());
}

ASYNC_TEST("messages in front of one that cannot be taken are not lost") {
  const auto executor = co_await asio::this_coro::executor;
  for (const bool known : {true, false}) {
    cinema ends(executor);
    ends.there.write(hello_frame<std::variant<film, number, carrier, text>, sent>() +
                     frame(wire::kind::message, payload_of(1, number{1})) +
                     frame(wire::kind::message, payload_of(1, number{2})) +
                     frame(wire::kind::message, known ? little(1, 2) + "short" : payload_of(3, text{"new"})) +
                     frame(wire::kind::message, payload_of(1, number{3})));
    std::vector<sent> many;
    const auto count = co_await ends.here.receive_many(many, 100);
    CHECK(count == 2);
    CHECK(many.size() == 2);
    const auto code = co_await error_of(ends.here.receive_many(many, 100));
    CHECK(code == (known ? errc::malformed : errc::unknown_message));
    if (known) continue;
    const auto rest = co_await ends.here.receive_many(many, 100);
    REQUIRE(rest == 1);
    CHECK(std::get<number>(many[0]).value == 3);
  }
}

PLAIN_TEST("taking many messages can be cancelled at any moment, and none is lost") {
  cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    both ends(executor);
    outcome_of<void> sending(executor, send_films(ends.here, 5, 30'000));
    std::vector<sent> many;
    const auto first = co_await cancelled(ends.there.receive_many(many, 2));
    std::size_t came = first.value_or(0);
    for (;;) {
      const auto count = co_await ends.there.receive_many(many, 2);
      if (count == 0) break;
      for (const auto& each : many) CHECK(holds(each, film_of(30'000, static_cast<unsigned>(came++))));
    }
    CHECK(came == 5);
    co_await sending.get();
  });
}

PLAIN_TEST("a send from where the message lies may be cancelled at any moment, and the message go away") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    both ends(executor);
    const film before = film_of(400'000, 1);
    outcome_of<void> first(executor, ends.here.send(before));
    auto what = std::make_unique<film>(film_of(700'000, 2));
    what->names.assign(2, std::string(50'000, 'x'));
    const film copy = *what;
    std::vector<film> heard;
    const auto read = [&]() -> asio::awaitable<void> {
      co_await yield(3);
      while (auto got = co_await ends.there.receive()) {
        heard.push_back(std::get<film>(*got));
        co_await yield();
      }
    };
    outcome_of<void> reading(executor, read());
    const bool all = co_await cancelled(ends.here.send(*what));
    what->frames.assign(what->frames.size(), '!');
    what.reset();
    co_await first.get();
    co_await ends.here.disconnect();
    co_await reading.get();
    REQUIRE(heard.size() == (all ? 2 : 1));
    CHECK(same(heard[0], before));
    if (all) CHECK(same(heard[1], copy));
  });
  CHECK(points > 3);
}

/// Its codec encodes what it has made for that.
struct made {
  std::size_t size = 0;
};

PLAIN_TEST("what a codec has made to encode it is copied, and what lies in the message is not") {
  struct plain {
    std::vector<std::uint32_t> numbers;
    std::array<std::string, 2> texts;
  } what;
  what.numbers.resize(20'000);
  what.texts[1].assign(40'000, 't');
  const auto lent = detail::encode_lent(0, what);
  REQUIRE(lent.borrowed.list().size() == 2);
  CHECK(static_cast<const void*>(lent.borrowed.list()[0].data) == what.numbers.data());
  CHECK(lent.borrowed.list()[1].data == what.texts[1].data());
  CHECK(lent.size() == detail::encode_now(0, 0, what).size());
}

}  // namespace cohort::test::receive_into_test

template <>
struct cohort::codec<cohort::test::receive_into_test::made> {
  static void encode(writer& out, const test::receive_into_test::made& value) {
    codec<std::string>::encode(out, std::string(value.size, 'm'));
  }
  static void decode(reader& in, test::receive_into_test::made& value) {
    std::string text;
    codec<std::string>::decode(in, text);
    value.size = text.size();
  }
  static constexpr std::uint64_t shape() { return custom_shape("text"); }
};

namespace cohort::test::receive_into_test {

PLAIN_TEST("a codec that is written by hand may encode what is gone when it returns") {
  struct outer {
    std::string text;
    made inside;
  } what{std::string(40'000, 'o'), made{50'000}};
  const auto lent = detail::encode_lent(0, what);
  CHECK(lent.borrowed.list().size() == 1);
  CHECK(lent.size() == 2 + 4 + 40'000 + 4 + 50'000);
}

}  // namespace cohort::test::receive_into_test
