// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/ipc/channel.hpp"
#include "../../include/cohort/ipc/channel_pair.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <sys/eventfd.h>

#include "../support/asio.hpp"
#include "../support/fault.hpp"
#include "channels.hpp"

namespace cohort::test::channel_test {
namespace {

using strings = std::vector<std::string>;

ASYNC_TEST("single types go both ways") {
  connected<text, number> both(co_await asio::this_coro::executor);
  const text question{"what is it?"};
  co_await both.here.send(question);
  const auto asked = co_await both.there.receive();
  REQUIRE(asked);
  CHECK(asked->value == "what is it?");
  co_await both.there.send<number>(42u);
  const auto answer = co_await both.here.receive();
  REQUIRE(answer);
  CHECK(answer->value == 42);
}

ASYNC_TEST("the alternatives of a variant go both ways") {
  talking both(co_await asio::this_coro::executor);
  co_await both.here.send<number>(7u);
  co_await both.here.send<text>("seven");
  co_await both.here.send<nothing>();
  co_await both.here.disconnect();
  auto heard = co_await all(both.there);
  CHECK(heard == strings{"7", "seven", "nothing"});
  co_await both.there.send<nothing>();
  co_await both.there.send<text>("seven");
  co_await both.there.disconnect();
  heard = co_await all(both.here);
  CHECK(heard == strings{"nothing", "seven"});
}

ASYNC_TEST("a message may be named, constant, moved from, or made in the call") {
  talking both(co_await asio::this_coro::executor);
  text named{"named"};
  const text constant{"constant"};
  const number small{1};
  co_await both.here.send(named);
  co_await both.here.send(constant);
  co_await both.here.send(small);
  co_await both.here.send(number{2});
  co_await both.here.send<text>(constant);
  co_await both.here.send<text>(std::string("made"));
  CHECK(both.here.post(named));
  CHECK(both.here.post(number{3}));
  CHECK(both.here.post(std::in_place_type<text>, "posted"));
  co_await both.here.disconnect();
  const auto heard = co_await all(both.there);
  CHECK(heard == strings{"named", "constant", "1", "2", "constant", "made", "named", "3", "posted"});
}

ASYNC_TEST("a message without a large part need not outlive the call of send") {
  talking both(co_await asio::this_coro::executor);
  auto large = std::make_unique<text>(text_of_size(30'000));
  auto small = std::make_unique<number>(number{5});
  const auto expected = as_string(any_message(*large));
  auto first = both.here.send(*large);
  auto second = both.here.send(*small);
  large.reset();
  small.reset();
  co_await std::move(first);
  co_await std::move(second);
  const auto got_large = co_await next(both.there);
  const auto got_small = co_await next(both.there);
  CHECK(got_large == expected);
  CHECK(got_small == "5");
}

ASYNC_TEST("messages of every size at a boundary arrive as they were sent") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  strings expected;
  std::vector<text> sent;
  for (const std::size_t boundary : {std::size_t{8}, std::size_t{16 * 1024}, std::size_t{wire::max_frame},
                                     std::size_t{2 * wire::max_frame}, std::size_t{1024 * 1024}}) {
    for (const std::size_t size : {boundary - 1, boundary, boundary + 1}) {
      sent.push_back(text_of_size(size, static_cast<unsigned>(sent.size())));
      expected.push_back(as_string(any_message(sent.back())));
      expected.push_back("nothing");
    }
  }
  auto send_all = [&]() -> asio::awaitable<void> {
    for (const auto& each : sent) {
      co_await both.here.send(each);
      co_await both.here.send<nothing>();
    }
    co_await both.here.disconnect();
  };
  outcome_of<void> sending(executor, send_all());
  const auto heard = co_await all(both.there);
  co_await sending.get();
  CHECK(heard == expected);
}

ASYNC_TEST("posted messages of every size at a boundary arrive as they were sent") {
  const auto executor = co_await asio::this_coro::executor;
  channel_options roomy;
  roomy.high_water = 64 * 1024 * 1024;
  talking both(executor, roomy);
  strings expected;
  for (const std::size_t boundary : {std::size_t{16 * 1024}, std::size_t{wire::max_frame}, std::size_t{1024 * 1024}}) {
    for (const std::size_t size : {boundary - 1, boundary, boundary + 1}) {
      const text each = text_of_size(size, static_cast<unsigned>(expected.size()));
      expected.push_back(as_string(any_message(each)));
      CHECK(both.here.post(each));
    }
  }
  outcome_of<void> ending(executor, both.here.disconnect());
  const auto heard = co_await all(both.there);
  co_await ending.get();
  CHECK(heard == expected);
}

ASYNC_TEST("max_message is the largest message, and one byte more is not sent") {
  const auto executor = co_await asio::this_coro::executor;
  channel_options small;
  small.max_message = 300'000;
  talking both(executor, small, small);
  const text largest = text_of_size(300'000), too_large = text_of_size(300'001);
  auto code = co_await error_of(both.there.send(too_large));
  CHECK(code == errc::message_too_large);
  CHECK_THROWS_AS(both.here.post(too_large), std::system_error);

  outcome_of<void> sending(executor, both.here.send(largest));
  auto heard = co_await next(both.there);
  co_await sending.get();
  CHECK(heard == as_string(any_message(largest)));
  const auto what = co_await text_of(both.here.send(too_large));
  CHECK(what == "send: cohort::test::text of 300001 bytes, at most 300000: message too large");
  const auto object = descriptor(::eventfd(0, EFD_CLOEXEC));
  code = co_await error_of(both.here.send_handle(too_large, object));
  CHECK(code == errc::message_too_large);

  co_await both.here.send<number>(1u);
  heard = co_await next(both.there);
  CHECK(heard == "1");
}

ASYNC_TEST("the smaller limit of the two sides holds, once it is known") {
  const auto executor = co_await asio::this_coro::executor;
  channel_options small;
  small.max_message = 1000;
  talking both(executor, channel_options(), small);
  co_await both.there.send<nothing>();
  co_await both.here.receive();
  const text largest = text_of_size(1000), too_large = text_of_size(1001);
  co_await both.here.send(largest);
  CHECK_THROWS_AS(both.here.post(too_large), std::system_error);
  auto code = co_await error_of(both.here.send(too_large));
  CHECK(code == errc::message_too_large);
  const auto object = descriptor(::eventfd(0, EFD_CLOEXEC));
  code = co_await error_of(both.here.send_handle(too_large, object));
  CHECK(code == errc::message_too_large);
  const auto heard = co_await next(both.there);
  CHECK(heard == as_string(any_message(largest)));
}

ASYNC_TEST("a message that the peer said too late to be too large ends the channel") {
  const auto executor = co_await asio::this_coro::executor;
  for (const std::size_t size : {std::size_t{1001}, std::size_t{300'000}}) {
    auto ends = make_channel_pair();
    channel<any_message, any_message> here(executor, std::move(ends.first));
    const text too_large = text_of_size(size);
    outcome_of<void> sending(executor, here.send(too_large));
    co_await yield(5);

    channel_options small;
    small.max_message = 1000;
    channel<any_message, any_message> there(executor, std::move(ends.second), small);
    const auto code = co_await error_of(there.receive());
    CHECK(code == errc::message_too_large);
    CHECK_FALSE(there.is_open());
    co_await error_of(sending.get());
    const auto heard = co_await next(here);
    CHECK(heard == "(end)");
    const auto after = co_await error_of(here.send<nothing>());
    CHECK(after == errc::peer_closed);
  }
}

ASYNC_TEST("send suspends while the peer does not read, and goes on when it does") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  const text each = text_of_size(50'000);
  int sent = 0;
  auto send_all = [&]() -> asio::awaitable<void> {
    for (; sent < 100; ++sent) co_await both.here.send(each);
    co_await both.here.disconnect();
  };
  outcome_of<void> sending(executor, send_all());
  co_await yield(20);
  const int stopped_at = sent;
  CHECK(stopped_at < 50);
  co_await yield(20);
  CHECK(sent == stopped_at);

  const auto heard = co_await all(both.there);
  co_await sending.get();
  CHECK(sent == 100);
  CHECK(heard == strings(100, as_string(any_message(each))));
}

ASYNC_TEST("post refuses above the high-water mark, and takes again below it") {
  const auto executor = co_await asio::this_coro::executor;
  channel_options options;
  options.high_water = 100'000;
  talking both(executor, options);
  const text each = text_of_size(10'000);
  std::size_t posted = 0;
  while (both.here.post(each)) ++posted;
  CHECK(posted * 10'000 > 100'000);
  CHECK_FALSE(both.here.post(number{1}));
  auto flush = outcome_of<void>(executor, both.here.flush());
  for (std::size_t i = 0; i < posted; ++i) {
    const auto heard = co_await next(both.there);
    CHECK(heard == as_string(any_message(each)));
  }
  co_await flush.get();
  CHECK(both.here.post(number{2}));
  const auto heard = co_await next(both.there);
  CHECK(heard == "2");
}

ASYNC_TEST("what a turn posts goes out in one write at its end, or at once from 64 KiB on") {
  talking both(co_await asio::this_coro::executor);
  co_await both.there.send<nothing>();
  co_await both.here.receive();
  const intercept<&system::calls::sendmsg> counted(
      [](auto real, int fd, const msghdr* message, int flags) { return real(fd, message, flags); });
  for (std::uint64_t i = 0; i < 500; ++i) CHECK(both.here.post(number{i}));
  CHECK(counted.calls() == 0);
  co_await yield(2);
  CHECK(counted.calls() == 1);
  const text large = text_of_size(40'000);
  CHECK(both.here.post(large));
  CHECK(counted.calls() == 1);
  CHECK(both.here.post(large));
  CHECK(counted.calls() == 2);
}

ASYNC_TEST("flush waits for what was posted before") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  co_await both.here.flush();  // nothing to wait for
  const text large = text_of_size(700'000);
  CHECK(both.here.post(large));
  outcome_of<void> flushing(executor, both.here.flush());
  co_await yield(20);
  CHECK_FALSE(flushing.is_there());
  const auto heard = co_await next(both.there);
  CHECK(heard == as_string(any_message(large)));
  co_await flushing.get();
}

ASYNC_TEST("messages that are sent and posted in turn keep their order") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  strings expected;
  auto send_all = [&]() -> asio::awaitable<void> {
    for (std::uint64_t i = 0; i < 2000; ++i) {
      const text padded = text_of_size(6 + i * 17 % 40'000, static_cast<unsigned>(i));
      if (i % 3 == 0) {
        co_await both.here.send(padded);
        expected.push_back(as_string(any_message(padded)));
      } else if (i % 3 == 1) {
        if (both.here.post(padded)) expected.push_back(as_string(any_message(padded)));
      } else {
        co_await both.here.send<number>(i);
        expected.push_back(std::to_string(i));
      }
    }
    co_await both.here.disconnect();
  };
  outcome_of<void> sending(executor, send_all());
  const auto heard = co_await all(both.there);
  co_await sending.get();
  CHECK(expected.size() > 1334);
  CHECK(heard == expected);
}

ASYNC_TEST("messages of several senders arrive in the order in which they began to send") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  strings expected;
  auto send_one = [&](unsigned i) -> asio::awaitable<void> {
    const text each = text_of_size(i % 2 == 0 ? 10 : 60'000, i);
    expected.push_back(as_string(any_message(each)));
    co_await both.here.send(each);
  };
  std::vector<std::unique_ptr<outcome_of<void>>> sending;
  for (unsigned i = 0; i < 40; ++i) sending.push_back(std::make_unique<outcome_of<void>>(executor, send_one(i)));
  strings heard;
  for (unsigned i = 0; i < 40; ++i) heard.push_back(co_await next(both.there));
  for (const auto& each : sending) co_await each->get();
  CHECK(heard == expected);
}

ASYNC_TEST("each message goes to one of several receivers") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  std::vector<std::uint64_t> heard;
  auto listen = [&]() -> asio::awaitable<void> {
    while (auto message = co_await both.there.receive()) heard.push_back(std::get<number>(*message).value);
  };
  outcome_of<void> first(executor, listen()), second(executor, listen()), third(executor, listen());
  std::vector<std::uint64_t> sent;
  for (std::uint64_t i = 0; i < 300; ++i) {
    sent.push_back(i);
    if (i % 2 == 0) {
      co_await both.here.send<number>(i);
    } else {
      both.here.post(number{i});
    }
    if (i % 7 == 0) co_await yield();
  }
  co_await both.here.disconnect();
  co_await first.get();  // the end reaches all of them
  co_await second.get();
  co_await third.get();
  std::sort(heard.begin(), heard.end());
  CHECK(heard == sent);
}

ASYNC_TEST("messages and handles are received beside each other") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  strings heard_words, heard_handles;
  auto words = [&]() -> asio::awaitable<void> { heard_words = co_await all(both.there); };
  auto handles = [&]() -> asio::awaitable<void> {
    while (auto each = co_await both.there.receive_handle()) {
      CHECK(each->handle);
      heard_handles.push_back(as_string(each->message));
    }
  };
  outcome_of<void> hearing_words(executor, words()), hearing_handles(executor, handles());
  strings said_words, said_handles;
  for (std::uint64_t i = 0; i < 100; ++i) {
    if (i % 5 == 3) {
      const number with{i};
      co_await both.here.send_handle(with, descriptor(::eventfd(0, EFD_CLOEXEC)));
      said_handles.push_back(std::to_string(i));
    } else {
      co_await both.here.send<number>(i);
      said_words.push_back(std::to_string(i));
    }
  }
  co_await both.here.disconnect();
  co_await hearing_words.get();
  co_await hearing_handles.get();
  CHECK(heard_words == said_words);
  CHECK(heard_handles == said_handles);
}

ASYNC_TEST("messages that have been read come without suspending") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  for (std::uint64_t i = 0; i < 10; ++i) both.here.post(number{i});
  co_await both.here.flush();
  auto heard = co_await next(both.there);
  bool turned = false;
  asio::post(executor, [&] { turned = true; });
  for (std::uint64_t i = 1; i < 10; ++i) heard = co_await next(both.there);
  CHECK(heard == "9");
  CHECK_FALSE(turned);
  co_await yield();
  CHECK(turned);
}

ASYNC_TEST("a small message goes out without suspending") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  bool turned = false;
  asio::post(executor, [&] { turned = true; });
  co_await both.here.send<number>(1u);
  co_await both.here.send<text>("small");
  CHECK_FALSE(turned);
  co_await yield();
}

ASYNC_TEST("a channel may be moved while operations wait on it") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  outcome_of<std::optional<any_message>> receiving(executor, both.there.receive());
  const text large = text_of_size(1024 * 1024);
  outcome_of<void> sending(executor, both.there.send(large));
  co_await yield(3);
  channel<any_message, any_message> moved(std::move(both.there));
  CHECK_FALSE(both.there.is_open());
  CHECK(moved.is_open());
  co_await both.here.send<number>(9u);
  const auto got = co_await receiving.get();
  REQUIRE(got);
  CHECK(as_string(*got) == "9");
  const auto heard = co_await next(both.here);
  CHECK(heard == as_string(any_message(large)));
  co_await sending.get();
}

ASYNC_TEST("what waits for messages reads no more than 4 MiB of those that nobody takes") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  // there waits for handles only, and so reads for itself
  outcome_of<std::optional<received<any_message>>> waiting(executor, both.there.receive_handle());
  const text each = text_of_size(100'000);
  std::size_t sent = 0;
  auto send_all = [&]() -> asio::awaitable<void> {
    for (; sent < 100; ++sent) co_await both.here.send(each);
    const number with{1};
    co_await both.here.send_handle(with, descriptor(::eventfd(0, EFD_CLOEXEC)));
  };
  outcome_of<void> sending(executor, send_all());
  co_await yield(500);
  const auto stopped_at = sent;
  INFO(stopped_at);
  CHECK(stopped_at > 40);
  CHECK(stopped_at < 60);
  for (int i = 0; i < 100; ++i) {
    const auto heard = co_await next(both.there);
    CHECK(heard == as_string(any_message(each)));
  }
  const auto got = co_await waiting.get();
  CHECK(got);
  co_await sending.get();
}

/// Messages and calls from many threads to and fro, each end on a strand of its own.
ASYNC_TEST("channels on strands of a pool of threads lose nothing") {
  asio::thread_pool pool(4);
  auto ends = make_channel_pair();
  using side = channel<number, number>;
  std::atomic<std::uint64_t> heard = 0;
  constexpr std::uint64_t many = 3000;
  const auto send_all = [](side& to) -> asio::awaitable<void> {
    for (std::uint64_t i = 1; i <= many; ++i) {
      if (i % 2 != 0) {
        to.post(number{i});
      } else {
        co_await to.send<number>(i);
      }
    }
    co_await to.disconnect();
  };
  const auto hear_all = [&heard](side& from) -> asio::awaitable<void> {
    std::uint64_t last = 0;
    while (const auto message = co_await from.receive()) {
      if (message->value == last + 1) ++heard;
      last = message->value;
    }
  };
  const auto both_ways = [&](descriptor end) -> asio::awaitable<void> {
    const auto strand = co_await asio::this_coro::executor;
    side self(strand, std::move(end));
    outcome_of<void> sending(strand, send_all(self));
    co_await hear_all(self);
    co_await sending.get();
  };
  std::vector<std::future<void>> ended;
  for (descriptor* end : {&ends.first, &ends.second}) {
    const auto strand = asio::make_strand(pool.get_executor());
    ended.push_back(asio::co_spawn(strand, both_ways(std::move(*end)), asio::use_future));
  }
  for (auto& each : ended) each.get();
  pool.join();
  CHECK(heard == 2 * many);
  co_return;
}

ASYNC_TEST("a channel on several threads without a strand is refused when it is made") {
  asio::thread_pool several(2), one(1);
  auto ends = make_channel_pair();
  using side = channel<number, number>;
  std::error_code code;
  try {
    side racing(several.get_executor(), std::move(ends.first));
  } catch (const std::system_error& error) {
    code = error.code();
  }
  CHECK(code == std::error_code(EINVAL, std::system_category()));
  ends = make_channel_pair();
  {
    const side alone(one.get_executor(), std::move(ends.first));
  }
  {
    const side ordered(asio::make_strand(several.get_executor()), std::move(ends.second));
  }
  several.join();
  one.join();
  co_return;
}

}  // namespace
}  // namespace cohort::test::channel_test
