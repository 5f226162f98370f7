// SPDX-License-Identifier: BSL-1.0
// Channels over rings of shared memory, in what the socket does not do; for all else the room is run a second time,
// with COHORT_TEST_TRANSPORT. And a peer that writes into this memory what no correct one does.
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../include/cohort/ipc/transport/ring.hpp"
#include "../support/fault.hpp"
#include "channels.hpp"
#include "raw_end.hpp"

namespace cohort::test::shared_memory_test {
namespace {

using detail::ring_memory;
using strings = std::vector<std::string>;

channel_options with_ring(std::size_t size) {
  channel_options options;
  options.transport = transport::shared_memory;
  options.ring_size = size;
  return options;
}

/// A channel, and a peer that has a ring of its own and plays it by hand.
struct against_ring {
  static constexpr std::size_t capacity = 8192;

  explicit against_ring(const asio::any_io_executor& executor)
      : both(executor, with_ring(capacity)), fd(ring_memory::make(capacity)), mine(fd.get(), capacity) {
    mine.control().handles_at.store(~std::uint64_t{0});
    both.there.write(talking_hello());
    both.there.write(frame(wire::kind::ring, little(capacity, 8), 1), {fd.get()});
  }

  /// Publishes bytes in the ring, and rings.
  void say(std::string_view bytes) {
    for (const char each : bytes) mine.data()[said++ % capacity] = each;
    mine.control().tail.store(said);
    ring();
  }

  void ring() { both.there.try_write(std::string_view("", 1), {}); }  // the channel may have ended

  /// The channel's own ring, which comes behind its hello.
  ring_memory theirs() {
    const descriptor memory = both.there.next_descriptor();
    return ring_memory(memory.get(), capacity);
  }

  against_raw<> both;
  descriptor fd;
  ring_memory mine;
  std::uint64_t said = 0;
};

std::string number_frame(std::uint64_t value) { return frame(wire::kind::message, number_payload(value)); }

asio::awaitable<void> expect_refused(descriptor memory, std::uint64_t capacity, std::string_view behind = {},
                                     channel_options options = {}) {
  against_raw<> both(co_await asio::this_coro::executor, options);
  const std::vector<int> handles{memory.get()};
  both.there.write(talking_hello());
  both.there.write(frame(wire::kind::ring, little(capacity, 8), 1).append(behind), handles);
  const auto code = co_await error_of(both.here.receive());
  CHECK(code == errc::malformed);
  CHECK_FALSE(both.here.is_open());
}

ASYNC_TEST("messages between two that are awake need no system call, whichever of them has chosen shared memory") {
  talking both(co_await asio::this_coro::executor, with_ring(64 * 1024));
  for (const std::uint64_t i : {1u, 2u}) {  // both get to know of the rings
    co_await both.here.send<number>(i);
    auto heard = co_await next(both.there);
    co_await both.there.send<number>(i);
    heard = co_await next(both.here);
    CHECK(heard == std::to_string(i));
    co_await yield(5);
  }
  const intercept<&system::calls::sendmsg> sending([](auto real, auto... all) { return real(all...); });
  const intercept<&system::calls::recvmsg> receiving([](auto real, auto... all) { return real(all...); });
  for (std::uint64_t i = 0; i < 10; ++i) {
    co_await both.here.send<number>(i);
    auto heard = co_await next(both.there);
    co_await both.there.send<number>(i);
    heard = co_await next(both.here);
    CHECK(heard == std::to_string(i));
  }
  CHECK(sending.calls() + receiving.calls() == 0);
}

ASYNC_TEST("a message of any size goes through a small ring, with handles between") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor, with_ring(4096), with_ring(4096));
  strings sent, heard;
  auto say = [&]() -> asio::awaitable<void> {
    for (const std::size_t size : {6u, 4000u, 4087u, 4088u, 4089u, 20'000u, 200'000u, 1'000'000u}) {
      const text message = text_of_size(size);
      sent.push_back(as_string(any_message(message)));
      co_await both.here.send(message);
      const number with{size};
      co_await both.here.send_handle(with, descriptor(::eventfd(1, EFD_CLOEXEC)));
    }
    co_await both.here.disconnect();
  };
  outcome_of<void> saying(executor, say());
  auto take = [&]() -> asio::awaitable<int> {
    int taken = 0;
    while (auto got = co_await both.there.receive_handle()) ++taken;
    co_return taken;
  };
  outcome_of<int> taking(executor, take());
  heard = co_await all(both.there);
  CHECK(heard == sent);
  co_await saying.get();
  const int taken = co_await taking.get();
  CHECK(taken == 8);
}

ASYNC_TEST("a sender waits while the ring is full, and hears when its peer goes") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor, with_ring(4096));
  const text large = text_of_size(100'000);
  outcome_of<void> sending(executor, both.here.send(large));
  co_await yield(20);
  CHECK_FALSE(sending.is_there());
  both.there.close();
  const auto code = co_await error_of(sending.get());
  CHECK(code == errc::peer_closed);
}

ASYNC_TEST("what a peer wrote into its ring before it went is received, and a torn message is told") {
  const auto executor = co_await asio::this_coro::executor;
  against_ring both(executor);
  both.say(number_frame(1) + number_frame(2).substr(0, 9));
  both.both.there.close();
  const auto heard = co_await next(both.both.here);
  CHECK(heard == "1");
  const auto code = co_await error_of(both.both.here.receive());
  CHECK(code == errc::peer_closed);
}

ASYNC_TEST("memory that could be taken away is no ring") {
  constexpr std::size_t size = 8192;
  const auto made = [](int seals, std::size_t bytes) {
    descriptor fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0);
    if (seals != 0) REQUIRE(::fcntl(fd.get(), F_ADD_SEALS, seals) == 0);
    return fd;
  };
  constexpr int both = F_SEAL_SHRINK | F_SEAL_GROW;
  co_await expect_refused(made(0, ring_memory::head_size + size), size);
  co_await expect_refused(made(F_SEAL_GROW, ring_memory::head_size + size), size);
  co_await expect_refused(made(both, size), size);
  co_await expect_refused(made(both, 0), 0);
  co_await expect_refused(made(both, ring_memory::head_size + 5000), 5000);  // no power of two
  co_await expect_refused(made(both, ring_memory::head_size + 1024), 1024);  // less than a page
  co_await expect_refused(made(both, ring_memory::head_size + size), std::uint64_t{1} << 63);
  co_await expect_refused(descriptor(::eventfd(0, EFD_CLOEXEC)), size);
  co_await expect_refused(ring_memory::make(size), size, "more");
}

ASYNC_TEST("no ring is taken that is larger than this side allows") {
  channel_options options;
  options.max_peer_ring = 4096;
  co_await expect_refused(ring_memory::make(8192), 8192, {}, options);
  options.max_peer_ring = 0;
  co_await expect_refused(ring_memory::make(4096), 4096, {}, options);
  talking both(co_await asio::this_coro::executor, with_ring(8192), options);
  const auto code = co_await error_of(both.there.receive());
  CHECK(code == errc::malformed);
}

ASYNC_TEST("positions that cannot be break the channel") {
  const auto executor = co_await asio::this_coro::executor;
  for (const std::uint64_t tail : {std::uint64_t{8193}, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    against_ring both(executor);
    both.mine.control().tail.store(tail);
    both.ring();
    const auto code = co_await error_of(both.both.here.receive());
    CHECK(code == errc::malformed);
  }
  {
    against_ring both(executor);
    both.say(number_frame(1));
    const auto heard = co_await next(both.both.here);
    CHECK(heard == "1");
    both.mine.control().tail.store(3);  // back
    both.ring();
    const auto code = co_await error_of(both.both.here.receive());
    CHECK(code == errc::malformed);
  }
  for (const std::uint64_t head : {std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    against_ring both(executor);
    both.theirs().control().head.store(head);
    outcome_of<std::optional<any_message>> receiving(executor, both.both.here.receive());
    auto code = co_await error_of(both.both.here.send<number>(1u));
    CHECK(code == errc::malformed);
    code = co_await error_of(receiving.get());
    CHECK(code == errc::malformed);
  }
}

ASYNC_TEST("descriptors that a ring announces are waited for, and those that it does not announce break the channel") {
  const auto executor = co_await asio::this_coro::executor;
  const descriptor object(::eventfd(7, EFD_CLOEXEC));
  const std::string announced =
      frame(wire::kind::handles, {}, 1) + lease_frame(1, handle_kind::descriptor, number_payload(5));
  {
    against_ring both(executor);
    outcome_of<std::optional<received<any_message>>> taking(executor, both.both.here.receive_handle());
    both.mine.control().handles_at.store(0);
    both.say(announced);
    co_await yield(20);
    CHECK_FALSE(taking.is_there());
    both.both.there.write("!", {object.get()});
    const auto got = co_await taking.get();
    REQUIRE(got);
    CHECK(as_string(got->message) == "5");
  }
  {
    against_ring both(executor);
    both.mine.control().handles_at.store(0);
    both.say(announced);
    both.both.there.close();
    const auto code = co_await error_of(both.both.here.receive());
    CHECK(code == errc::malformed);
  }
  {
    against_ring both(executor);
    outcome_of<std::optional<any_message>> receiving(executor, both.both.here.receive());
    co_await yield(5);
    for (int i = 0; i < 2; ++i) both.both.there.write("!", {object.get(), object.get()});
    const auto code = co_await error_of(receiving.get());
    CHECK(code == errc::malformed);
  }
}

ASYNC_TEST("whatever a peer scribbles into its memory, the channel goes on or ends as malformed") {
  const auto executor = co_await asio::this_coro::executor;
  std::mt19937_64 chance(20260101);
  unsigned ended = 0;
  for (int round = 0; round < 200; ++round) {
    against_ring both(executor);
    outcome_of<strings> receiving(executor, all(both.both.here));
    for (int i = 0; i < 4; ++i) {
      std::string bytes = number_frame(chance());
      for (auto flips = chance() % 3; flips != 0; --flips) bytes[chance() % bytes.size()] = static_cast<char>(chance());
      both.say(bytes);
      char* const at = reinterpret_cast<char*>(&both.mine.control());
      if (chance() % 4 == 0) at[chance() % sizeof(detail::ring_control)] = static_cast<char>(chance());
      co_await yield(2);
    }
    both.both.there.close();
    const auto code = co_await error_of(receiving.get());
    CHECK((!code || code == errc::malformed || code == errc::unknown_message || code == errc::peer_closed ||
           code == errc::message_too_large));
    if (code) ++ended;
  }
  CHECK(ended > 20);
}

ASYNC_TEST("without memory for a ring a channel is not made, and a peer's choice ends it") {
  const auto executor = co_await asio::this_coro::executor;
  {
    const fault<&system::calls::memfd_create> none(EMFILE);
    CHECK_THROWS_WITH_AS(talking(executor, with_ring(4096)), doctest::Contains("memfd_create for a ring"),
                         std::system_error);
    CHECK_THROWS_WITH_AS(talking(executor, with_ring(0)), doctest::Contains("ring_size of 0 bytes"), std::system_error);
  }
  const fault<&system::calls::memfd_create> none(EMFILE, 2);
  talking both(executor, with_ring(4096));
  auto code = co_await error_of(both.there.receive());
  CHECK(code.value() == EMFILE);
  code = co_await error_of(both.here.receive());
  CHECK_FALSE(code);  // the end
}

}  // namespace
}  // namespace cohort::test::shared_memory_test
