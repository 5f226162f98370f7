// SPDX-License-Identifier: BSL-1.0
// Whose a handle is, from send_handle() to receive_handle(), and when something goes wrong in between.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sys/eventfd.h>
#include <unistd.h>

#include "../support/fault.hpp"
#include "channels.hpp"
#include "raw_end.hpp"

namespace cohort::test::lease_test {
namespace {

using strings = std::vector<std::string>;

descriptor counter(unsigned value) { return descriptor(::eventfd(value, EFD_CLOEXEC | EFD_NONBLOCK)); }

/// The value of a counter, which a read sets to zero; ~0 when it is not one.
eventfd_t value_of(int fd) {
  eventfd_t value = 0;
  if (::eventfd_read(fd, &value) == 0) return value;
  return errno == EAGAIN ? 0 : ~eventfd_t{0};
}

/// Takes a handle, which must be a counter of the value that its message says.
template <class Out, class In>
asio::awaitable<std::string> take(channel<Out, In>& from) {
  const auto got = co_await from.receive_handle();
  if (!got) co_return "(end)";
  auto said = as_string(got->message);
  CHECK(said == std::to_string(value_of(got->handle.native_handle())));
  co_return said;
}

ASYNC_TEST("send_handle completes when the handle was taken, and not before") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  descriptor object = counter(4);
  const number with{4};
  outcome_of<void> giving(executor, both.here.send_handle(with, std::move(object)));
  co_await both.here.send<number>(1u);
  const auto heard = co_await next(both.there);  // so the handle has been read as well
  CHECK(heard == "1");
  co_await yield(20);
  CHECK_FALSE(giving.is_there());
  CHECK(object);
  const auto taken = co_await take(both.there);
  CHECK(taken == "4");
  co_await giving.get();
  CHECK_FALSE(object);
}

ASYNC_TEST("an rvalue is given away, an lvalue is shared") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  const number with{1};
  descriptor object = counter(1);
  const descriptor constant = counter(1);
  auto give = [&]() -> asio::awaitable<void> {
    co_await both.here.send_handle(with, object);
    CHECK(object);
    co_await both.here.send_handle(with, constant);
    CHECK(constant);
    co_await both.here.send_handle(with, std::move(object));
    CHECK_FALSE(object);
    co_await both.here.send_handle(with, counter(1));
  };
  outcome_of<void> giving(executor, give());
  for (const int handle : {1, 2, 3, 4}) {
    const auto got = co_await both.there.receive_handle();
    if (handle == 1) ::eventfd_write(got->handle.native_handle(), 41);
  }
  co_await giving.get();
}

ASYNC_TEST("handles arrive in order, whatever goes between them") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  std::vector<std::unique_ptr<outcome_of<void>>> giving;
  strings expected;
  auto give = [&](unsigned i) -> asio::awaitable<void> {
    const number with{i};
    co_await both.here.send_handle(with, counter(i));
  };
  for (unsigned i = 1; i <= 50; ++i) {
    giving.push_back(std::make_unique<outcome_of<void>>(executor, give(i)));
    expected.push_back(std::to_string(i));
    if (i % 3 == 0) both.here.post(text_of_size(30'000));
    if (i % 7 == 0) co_await yield();
  }
  strings taken;
  for (unsigned i = 1; i <= 50; ++i) taken.push_back(co_await take(both.there));
  for (const auto& each : giving) co_await each->get();
  CHECK(taken == expected);
}

ASYNC_TEST("as many handles are in flight as max_leases says") {
  const auto executor = co_await asio::this_coro::executor;
  for (const std::size_t most : {1u, 64u, 65u, 253u, 254u, 1000u}) {
    channel_options options;
    options.max_leases = most;
    talking both(executor, options, options);
    const descriptor shared = counter(0);
    std::vector<std::unique_ptr<outcome_of<void>>> giving;
    std::size_t given = 0;
    auto give = [&](std::uint64_t i) -> asio::awaitable<void> {
      const number with{i};
      co_await both.here.send_handle(with, shared);
      ++given;
    };
    for (std::size_t i = 0; i < most + 1; ++i) giving.push_back(std::make_unique<outcome_of<void>>(executor, give(i)));
    co_await yield(20);
    CHECK(given == 0);
    both.here.post(nothing());
    co_await yield(2);
    // the word that was posted behind them shows how many have gone out: all but one
    outcome_of<std::string> word(executor, next(both.there));
    const auto heard = co_await word.get();
    CHECK(heard == "nothing");

    for (std::size_t i = 0; i < most; ++i) {
      const auto got = co_await both.there.receive_handle();
      REQUIRE(got);
      REQUIRE(as_string(got->message) == std::to_string(i));
    }
    const auto last = co_await both.there.receive_handle();  // the one that waited
    REQUIRE(last);
    CHECK(as_string(last->message) == std::to_string(most));
    for (const auto& each : giving) co_await each->get();
    CHECK(given == most + 1);
  }
}

ASYNC_TEST("those who wait to give a handle go in order, and nobody overtakes them") {
  const auto executor = co_await asio::this_coro::executor;
  channel_options one;
  one.max_leases = 1;
  talking both(executor, one);
  const descriptor shared = counter(0);
  std::vector<std::unique_ptr<outcome_of<void>>> giving;
  auto give = [&](std::uint64_t i) -> asio::awaitable<void> {
    const number with{i};
    co_await both.here.send_handle(with, shared);
    // a slot is free now, and somebody waits for it
    const number again{i + 100};
    co_await both.here.send_handle(again, shared);
  };
  for (std::uint64_t i = 0; i < 10; ++i) giving.push_back(std::make_unique<outcome_of<void>>(executor, give(i)));
  strings taken, expected;
  for (int i = 0; i < 20; ++i) {
    const auto got = co_await both.there.receive_handle();
    taken.push_back(as_string(got->message));
    expected.push_back(std::to_string(i < 10 ? i : i + 90));
  }
  for (const auto& each : giving) co_await each->get();
  CHECK(taken == expected);
}

ASYNC_TEST("a window of none is one of one") {
  const auto executor = co_await asio::this_coro::executor;
  channel_options none;
  none.max_leases = 0;
  talking both(executor, none, none);
  descriptor object = counter(3);
  const number with{3};
  outcome_of<void> giving(executor, both.here.send_handle(with, std::move(object)));
  const auto taken = co_await take(both.there);
  CHECK(taken == "3");
  co_await giving.get();
}

ASYNC_TEST("declined handles go back to their sender: those that are there, and those that come") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  descriptor first = counter(1), second = counter(2);
  const number with{1};
  outcome_of<void> giving(executor, both.here.send_handle(with, std::move(first)));
  outcome_of<std::optional<any_message>> reading(executor, both.there.receive());
  co_await yield(5);
  both.there.decline_handles();
  auto code = co_await error_of(giving.get());
  CHECK(code == errc::handle_refused);
  CHECK(value_of(first.get()) == 1);
  code = co_await error_of(both.here.send_handle(with, std::move(second)));
  CHECK(code == errc::handle_refused);
  CHECK(value_of(second.get()) == 2);
  co_await both.here.send<number>(5u);  // messages go on
  const auto message = co_await reading.get();
  CHECK(as_string(message.value()) == "5");
}

ASYNC_TEST("a peer that closes gives back what it has not taken") {
  const auto executor = co_await asio::this_coro::executor;
  for (const bool read : {false, true}) {
    talking both(executor);
    descriptor taken = counter(1), untaken = counter(2);
    const number with{1};
    outcome_of<void> first(executor, both.here.send_handle(with, std::move(taken)));
    outcome_of<void> second(executor, both.here.send_handle(with, std::move(untaken)));
    const auto got = co_await take(both.there);
    CHECK(got == "1");
    if (read) {
      co_await both.here.send<number>(1u);
      co_await both.there.receive();
    }
    both.there.close();
    co_await first.get();
    CHECK_FALSE(taken);
    const auto what = co_await text_of(second.get());
    CHECK(what == "send_handle: the peer closed the channel");
    CHECK(value_of(untaken.get()) == 2);
  }
}

ASYNC_TEST("a handle that was taken is told even if writing fails before the answer is read") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw<> both(executor);
  both.there.write(talking_hello());
  // The handle goes out with a part of what is written with it; the rest then fails.
  const intercept<&system::calls::sendmsg> sending_some([&](auto real, int fd, const msghdr* message, int flags) {
    msghdr part = *message;
    if (sending_some.calls() == 1) {
      part.msg_iovlen = 2;  // the announcement and the frame
      return real(fd, &part, flags);
    }
    errno = sending_some.calls() == 2 ? EAGAIN : EPIPE;
    return ssize_t{-1};
  });
  descriptor object = counter(1), later = counter(2);
  const number with{1};
  const text large = text_of_size(1024 * 1024);
  outcome_of<void> giving(executor, both.here.send_handle(with, std::move(object)));
  outcome_of<void> sending(executor, both.here.send(large));
  outcome_of<void> giving_later(executor, both.here.send_handle(with, std::move(later)));
  const auto arrived = both.there.frames();
  CHECK(arrived.size() == 2);
  both.there.write(frame(wire::kind::adopted, little(1, 8)));
  both.there.close();

  co_await giving.get();
  CHECK_FALSE(object);
  auto code = co_await error_of(sending.get());
  CHECK(code == errc::peer_closed);
  code = co_await error_of(giving_later.get());
  CHECK(code == errc::peer_closed);
  CHECK(value_of(later.get()) == 2);
  CHECK(sending_some.calls() == 3);
}

ASYNC_TEST("a handle whose message is too large for one frame is not sent") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  descriptor object = counter(1);
  const text largest = text_of_size(wire::max_frame - 9), too_large = text_of_size(wire::max_frame - 8);
  auto what = co_await text_of(both.here.send_handle(too_large, std::move(object)));
  CHECK(what == "send_handle: cohort::test::text of 131064 bytes, at most 131063: message too large");
  CHECK(object);
  outcome_of<void> giving(executor, both.here.send_handle(largest, std::move(object)));
  const auto got = co_await both.there.receive_handle();
  CHECK(as_string(got->message) == as_string(any_message(largest)));
  co_await giving.get();
}

ASYNC_TEST("a receiver without room loses handles, their senders keep them, and later ones are in place") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  std::vector<descriptor> objects;
  std::vector<std::unique_ptr<outcome_of<void>>> giving;
  auto give = [&](unsigned i) -> asio::awaitable<void> {
    const number with{i};
    co_await both.here.send_handle(with, std::move(objects[i]));
  };
  for (unsigned i = 0; i < 6; ++i) objects.push_back(counter(i));
  for (unsigned i = 0; i < 6; ++i) giving.push_back(std::make_unique<outcome_of<void>>(executor, give(i)));
  co_await yield(3);
  {
    // as with a full descriptor table: what finds room comes, the rest is dropped, and the flag says so (unix(7))
    const intercept<&system::calls::recvmsg> small([](auto real, int fd, msghdr* message, int flags) {
      message->msg_controllen = CMSG_SPACE(4 * sizeof(int));
      return real(fd, message, flags);
    });
    for (const char* each : {"0", "1", "2", "3"}) {
      const auto taken = co_await take(both.there);
      CHECK(taken == each);
    }
  }
  for (unsigned i = 0; i < 4; ++i) co_await giving[i]->get();
  for (unsigned i = 4; i < 6; ++i) {
    const auto code = co_await error_of(giving[i]->get());
    CHECK(code == errc::handle_lost);
    REQUIRE(objects[i]);
    giving[i] = std::make_unique<outcome_of<void>>(executor, give(i));
  }
  for (const char* each : {"4", "5"}) {
    const auto taken = co_await take(both.there);
    CHECK(taken == each);
  }
  for (unsigned i = 4; i < 6; ++i) co_await giving[i]->get();
}

ASYNC_TEST("flush waits for the word that a handle has been taken") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  descriptor object = counter(1);
  const number with{1};
  outcome_of<void> giving(executor, both.here.send_handle(with, std::move(object)));
  {
    const fault<&system::calls::sendmsg> full(ENOBUFS, 2, every_time);  // the first one brings the handle
    const auto taken = co_await take(both.there);
    CHECK(taken == "1");
    outcome_of<void> flushing(executor, both.there.flush());
    co_await yield(5);
    CHECK_FALSE(flushing.is_there());
    CHECK(full.failed() > 0);
  }
  co_await both.there.flush();
  both.there.close();
  co_await giving.get();
  CHECK_FALSE(object);
}

ASYNC_TEST("an error that ends the channel leaves every handle that is under way with its sender") {
  const auto executor = co_await asio::this_coro::executor;
  channel_options two;
  two.max_leases = 2;
  against_raw<> both(executor, two);
  std::vector<descriptor> objects;
  std::vector<std::unique_ptr<outcome_of<void>>> giving;
  auto give = [&](unsigned i) -> asio::awaitable<void> {
    const number with{i};
    co_await both.here.send_handle(with, std::move(objects[i]));
  };
  for (unsigned i = 0; i < 4; ++i) objects.push_back(counter(i));
  for (unsigned i = 0; i < 4; ++i) giving.push_back(std::make_unique<outcome_of<void>>(executor, give(i)));
  co_await yield(3);
  both.there.write(talking_hello() + std::string(8, '\xff'));
  for (unsigned i = 0; i < 4; ++i) {
    const auto code = co_await error_of(giving[i]->get());
    CHECK(code == errc::malformed);
    CHECK(value_of(objects[i].get()) == i);
  }
}

}  // namespace
}  // namespace cohort::test::lease_test
