// SPDX-License-Identifier: BSL-1.0
// Each operation of a channel, cancelled at each of its suspension points: nothing is lost, and the channel goes on.
#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sys/eventfd.h>

#include "../support/cancellation.hpp"
#include "channels.hpp"
#include "raw_end.hpp"

namespace cohort::test::cancel_test {
namespace {

using strings = std::vector<std::string>;

descriptor counter(unsigned value) { return descriptor(::eventfd(value, EFD_CLOEXEC | EFD_NONBLOCK)); }

eventfd_t value_of(int fd) {
  eventfd_t value = 0;
  return ::eventfd_read(fd, &value) == 0 ? value : ~eventfd_t{0};
}

/// A channel whose sender is behind: the socket is full, and there is more. The peer reads what comes, slowly.
struct busy {
  explicit busy(const asio::any_io_executor& executor) : both(executor), reading(executor, read()) {
    const text filling = text_of_size(90'000);
    for (int i = 0; i < 6; ++i) {
      both.here.post(filling);
      expected.push_back(as_string(any_message(filling)));
    }
  }

  /// Sends a last message and checks that everything expected, and nothing else, has arrived.
  asio::awaitable<void> finish() {
    co_await both.here.send<text>("last");
    const auto heard = co_await reading.get();
    CHECK(heard == expected);
  }

  talking both;
  strings expected;
  outcome_of<strings> reading;

 private:
  asio::awaitable<strings> read() {
    strings result;
    for (;;) {
      co_await yield();
      auto message = co_await next(both.there);
      if (message == "last" || message == "(end)") co_return result;
      result.push_back(std::move(message));
    }
  }
};

PLAIN_TEST("a cancelled send has sent all or nothing: small") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    busy channel(co_await asio::this_coro::executor);
    const number small{1};
    const bool sent = co_await cancelled(channel.both.here.send(small));
    if (sent) channel.expected.push_back("1");
    co_await channel.finish();
  });
  CHECK(cancelled_runs > 3);
}

PLAIN_TEST("a cancelled send has sent all or nothing: large") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    busy channel(co_await asio::this_coro::executor);
    const text large = text_of_size(700'000, 1);
    const bool sent = co_await cancelled(channel.both.here.send(large));
    if (sent) channel.expected.push_back(as_string(any_message(large)));
    co_await channel.finish();
  });
  CHECK(cancelled_runs > 3);
}

PLAIN_TEST("a cancelled send between others takes nothing of them") {
  cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    busy channel(executor);
    auto& here = channel.both.here;
    const text before = text_of_size(20'000, 2), large = text_of_size(300'000, 3), after = text_of_size(50, 4);
    outcome_of<void> first(executor, here.send(before));
    channel.expected.push_back(as_string(any_message(before)));
    auto behind = [&]() -> asio::awaitable<void> {
      // starts in a later turn, and so gets into the queue behind the one that is cancelled
      co_await yield();
      co_await here.send(after);
    };
    outcome_of<void> last(executor, behind());
    const bool sent = co_await cancelled(here.send(large));
    if (sent) channel.expected.push_back(as_string(any_message(large)));
    channel.expected.push_back(as_string(any_message(after)));
    co_await first.get();
    co_await last.get();
    co_await channel.finish();
  });
}

PLAIN_TEST("a cancelled flush takes nothing back") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    busy channel(co_await asio::this_coro::executor);
    co_await cancelled(channel.both.here.flush());
    co_await channel.finish();
  });
  CHECK(cancelled_runs > 3);
}

PLAIN_TEST("a cancelled disconnect goes on by itself") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    busy channel(co_await asio::this_coro::executor);
    co_await cancelled(channel.both.here.disconnect());
    const auto code = co_await error_of(channel.both.here.send<number>(1u));
    CHECK(code == errc::closed);
    const auto heard = co_await channel.reading.get();
    CHECK(heard == channel.expected);
    co_await channel.both.here.disconnect();
  });
  CHECK(cancelled_runs > 3);
}

/// Writes bytes in parts, a turn of the loop between them.
asio::awaitable<void> write_slowly(raw_end& to, std::string bytes, std::size_t part, int handle = -1) {
  for (std::size_t at = 0; at < bytes.size(); at += part) {
    if (at == 0 && handle >= 0) {
      to.write(bytes.substr(0, part), {handle});
    } else {
      to.write(bytes.substr(at, part));
    }
    co_await yield(2);
  }
}

PLAIN_TEST("a cancelled receive leaves the message for the next one") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    against_raw<> both(executor);
    const text first = text_of_size(100, 1), second = text_of_size(100, 2);
    const std::string pieces = payload_of(1, second);
    outcome_of<void> writing(executor, write_slowly(both.there,
                                                    talking_hello() + frame(wire::kind::message, payload_of(1, first)) +
                                                        frame(wire::kind::piece, pieces.substr(0, 60)) +
                                                        frame(wire::kind::message, pieces.substr(60)),
                                                    50));
    const auto got = co_await cancelled(both.here.receive());
    std::string heard;
    if (got) {
      REQUIRE(*got);
      heard = as_string(**got);
    } else {
      heard = co_await next(both.here);
    }
    CHECK(heard == as_string(any_message(first)));
    heard = co_await next(both.here);
    CHECK(heard == as_string(any_message(second)));
    co_await writing.get();
  });
  CHECK(cancelled_runs > 3);
}

PLAIN_TEST("a cancelled receive_handle leaves the handle for the next one") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    against_raw<> both(executor);
    both.there.write(talking_hello());
    const descriptor object = counter(9);
    outcome_of<void> writing(executor, write_slowly(both.there,
                                                    frame(wire::kind::handles, {}, 1) +
                                                        lease_frame(1, handle_kind::descriptor, number_payload(9)),
                                                    7, object.get()));
    auto got = co_await cancelled(both.here.receive_handle());
    if (!got) got = co_await both.here.receive_handle();
    REQUIRE(*got);
    CHECK(as_string((*got)->message) == "9");
    CHECK(value_of((*got)->handle.native_handle()) == 9);
    co_await writing.get();
    co_await yield(2);
    const auto answers = both.there.frames();
    REQUIRE(answers.size() == 1);  // adopted once, whoever has taken it
    CHECK(answers[0] == std::pair(wire::kind::adopted, little(1, 8)));
  });
  CHECK(cancelled_runs > 3);
}

PLAIN_TEST("a cancelled reader hands over to those who wait beside it") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    talking both(executor);
    auto say = [&]() -> asio::awaitable<void> {
      const number with{2};
      co_await yield(3);
      co_await both.there.send<number>(1u);
      co_await both.there.send_handle(with, counter(2));
      co_await both.there.disconnect();
    };
    auto wait = [&]() -> asio::awaitable<void> {
      co_await yield();  // the one that is cancelled reads already
      outcome_of<std::optional<any_message>> second(executor, both.here.receive());
      outcome_of<std::optional<received<any_message>>> handle(executor, both.here.receive_handle());
      const auto got_handle = co_await handle.get();
      CHECK(got_handle);
      co_await second.get();
    };
    outcome_of<void> saying(executor, say()), waiting(executor, wait());
    co_await cancelled(both.here.receive());
    co_await waiting.get();
    co_await saying.get();
  });
  CHECK(cancelled_runs > 1);
}

PLAIN_TEST("a cancelled waiter leaves the reading to the one who reads") {
  cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    talking both(executor);
    outcome_of<std::optional<any_message>> reading(executor, both.here.receive());
    auto say = [&]() -> asio::awaitable<void> {
      co_await yield(4);
      co_await both.there.send<number>(1u);
      co_await both.there.send<number>(2u);
    };
    outcome_of<void> saying(executor, say());
    auto second = co_await cancelled(both.here.receive());
    if (!second) second = co_await both.here.receive();
    const auto first = co_await reading.get();
    CHECK(std::get<number>(**second).value + std::get<number>(*first).value == 3);
    co_await saying.get();
  });
}

/// Takes handles until the end; how many.
asio::awaitable<int> count_handles(talking::there_type& from) {
  int count = 0;
  while (auto got = co_await from.receive_handle()) {
    CHECK(as_string(got->message) == "5");
    CHECK(value_of(got->handle.native_handle()) == 5);
    ++count;
  }
  co_return count;
}

PLAIN_TEST("a cancelled send_handle keeps the handle, a completed one has given it away") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    talking both(executor);
    descriptor object = counter(5);
    const number with{5};
    outcome_of<int> taking(executor, count_handles(both.there));
    const bool given = co_await cancelled(both.here.send_handle(with, std::move(object)));
    CHECK(static_cast<bool>(object) == !given);
    co_await both.here.disconnect();
    const int taken = co_await taking.get();
    if (given) CHECK(taken == 1);
    CHECK(taken <= 1);  // it may have been taken in the moment of the cancellation, and is shared then
    if (taken == 0) CHECK(value_of(object.get()) == 5);
  });
  CHECK(cancelled_runs > 1);
}

PLAIN_TEST("a peer that hears first that a handle was cancelled does not get it") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    talking both(executor);
    descriptor object = counter(5);
    const number with{5};
    bool said = false;
    auto say = [&]() -> asio::awaitable<void> {
      co_await yield(12);
      said = true;
      co_await both.here.send<text>("take what is there");
    };
    auto take = [&]() -> asio::awaitable<int> {
      const auto heard = co_await next(both.there);  // which reads all that was sent before it
      CHECK(heard == "take what is there");
      co_return co_await count_handles(both.there);
    };
    outcome_of<void> saying(executor, say());
    outcome_of<int> taking(executor, take());
    const bool given = co_await cancelled(both.here.send_handle(with, std::move(object)));
    const bool in_time = !given && !said;
    co_await saying.get();
    co_await both.here.disconnect();
    const int taken = co_await taking.get();
    if (in_time) {
      CHECK(taken == 0);
      CHECK(value_of(object.get()) == 5);
    }
    if (given) CHECK(taken == 1);
  });
  CHECK(cancelled_runs > 5);
}

PLAIN_TEST("a handle that is cancelled in the queue is not sent, though its number may be another file's by then") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    busy channel(executor);
    auto& here = channel.both.here;
    descriptor object = counter(5), impostor;
    const int its_number = object.get();
    const number with{5};
    outcome_of<int> taking(executor, count_handles(channel.both.there));
    const bool given = co_await cancelled(here.send_handle(with, std::move(object)));
    const bool was_read = static_cast<bool>(object) && value_of(object.get()) != 5;
    object.reset();
    impostor = counter(77);
    if (!given && !was_read) CHECK(impostor.get() == its_number);
    co_await channel.finish();
    co_await here.disconnect();
    const int taken = co_await taking.get();  // whose values are all 5
    if (given) CHECK(taken == 1);
  });
  CHECK(cancelled_runs > 5);
}

PLAIN_TEST("one who is cancelled while waiting for room leaves it to the next") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    channel_options one;
    one.max_leases = 1;
    talking both(executor, one);
    descriptor first = counter(5), second = counter(5), third = counter(5);
    const number with{5};
    outcome_of<void> giving_first(executor, both.here.send_handle(with, std::move(first)));
    auto behind = [&]() -> asio::awaitable<void> {
      co_await yield();
      co_await both.here.send_handle(with, std::move(third));
    };
    outcome_of<void> giving_third(executor, behind());
    auto take = [&]() -> asio::awaitable<int> {
      co_await yield(4);
      co_return co_await count_handles(both.there);
    };
    outcome_of<int> taking(executor, take());
    const bool given = co_await cancelled(both.here.send_handle(with, std::move(second)));
    CHECK(static_cast<bool>(second) == !given);
    co_await giving_first.get();
    co_await giving_third.get();
    co_await both.here.disconnect();
    const int taken = co_await taking.get();
    CHECK(taken >= (given ? 3 : 2));
  });
  CHECK(cancelled_runs > 3);
}

ASYNC_TEST("an operation that is cancelled before it starts does nothing") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  descriptor object = counter(1);
  const number with{1};
  const text large = text_of_size(50'000);
  int aborted = 0;
  const auto cancelled_at_once = [&](auto operation) {
    auto signal = std::make_shared<asio::cancellation_signal>();
    auto later = [](auto work) -> asio::awaitable<void> {
      co_await asio::this_coro::throw_if_cancelled(false);
      co_await yield(2);
      co_await asio::this_coro::throw_if_cancelled(true);
      co_await std::move(work);
    };
    asio::co_spawn(executor, later(std::move(operation)),
                   asio::bind_cancellation_slot(signal->slot(), [&, signal](std::exception_ptr failure) {
                     const auto error = detail::system_error_in(failure);
                     if (error && error->code() == operation_aborted()) ++aborted;
                   }));
    signal->emit(asio::cancellation_type::terminal);
  };
  cancelled_at_once(both.here.send(with));
  cancelled_at_once(both.here.send(large));
  cancelled_at_once(both.here.send_handle(with, std::move(object)));
  cancelled_at_once(both.here.flush());
  cancelled_at_once(both.here.disconnect());
  cancelled_at_once(both.there.receive());
  cancelled_at_once(both.there.receive_handle());
  co_await yield(10);
  CHECK(aborted == 7);
  CHECK(object);
  co_await both.here.send<number>(3u);  // not disconnected
  const auto heard = co_await next(both.there);
  CHECK(heard == "3");
}

}  // namespace
}  // namespace cohort::test::cancel_test
