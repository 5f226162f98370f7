// SPDX-License-Identifier: BSL-1.0
// Channels over a kernel that refuses, interrupts, and takes or gives a byte at a time.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../support/fault.hpp"
#include "codec/boxes.hpp"
#include "channels.hpp"
#include "raw_end.hpp"

namespace cohort::test::fault_test {
namespace {

using strings = std::vector<std::string>;

/// Sends messages and handles from each side to the other, and checks that all of them arrive, in order.
asio::awaitable<void> converse() {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  const text medium = text_of_size(3'000), large = text_of_size(40'000);
  auto say = [&](talking::here_type& self) -> asio::awaitable<void> {
    co_await self.send<number>(1u);
    const number with{2};
    co_await self.send_handle(with, descriptor(::eventfd(2, EFD_CLOEXEC)));
    co_await self.send(medium);
    self.post(number{3});
    const number with_more{4};
    co_await self.send_handle(with_more, descriptor(::eventfd(4, EFD_CLOEXEC)));
    co_await self.send(large);
    co_await self.disconnect();
  };
  auto hear = [&](talking::here_type& self) -> asio::awaitable<strings> { co_return co_await all(self); };
  auto take = [](talking::here_type& self) -> asio::awaitable<strings> {
    strings result;
    while (auto got = co_await self.receive_handle()) {
      eventfd_t value = 0;
      ::eventfd_read(got->handle.native_handle(), &value);
      result.push_back(as_string(got->message) + " with " + std::to_string(value));
    }
    co_return result;
  };
  outcome_of<void> saying_here(executor, say(both.here)), saying_there(executor, say(both.there));
  outcome_of<strings> hearing_here(executor, hear(both.here)), hearing_there(executor, hear(both.there));
  outcome_of<strings> taking_here(executor, take(both.here)), taking_there(executor, take(both.there));
  co_await saying_here.get();
  co_await saying_there.get();
  const strings words{"1", as_string(any_message(medium)), "3", as_string(any_message(large))};
  const strings handles{"2 with 2", "4 with 4"};
  auto heard = co_await hearing_here.get();
  CHECK(heard == words);
  heard = co_await hearing_there.get();
  CHECK(heard == words);
  heard = co_await taking_here.get();
  CHECK(heard == handles);
  heard = co_await taking_there.get();
  CHECK(heard == handles);
}

ASYNC_TEST("nothing is lost when each refusal that passes meets each call in turn") {
  for (const int error : {EINTR, EAGAIN, ENOBUFS, ENOMEM, ETOOMANYREFS}) {
    for (unsigned first = 1;; ++first) {
      const fault<&system::calls::sendmsg> refused(error, first, 2);
      co_await converse();
      if (refused.failed() == 0) break;
    }
  }
}

ASYNC_TEST("nothing is lost when each read is refused in turn") {
  for (const int error : {EINTR, EAGAIN, ENOBUFS, ENOMEM}) {
    for (unsigned first = 1;; ++first) {
      const fault<&system::calls::recvmsg> refused(error, first, 2);
      co_await converse();
      if (refused.failed() == 0) break;
    }
  }
}

ASYNC_TEST("nothing is lost when every other call is refused") {
  for (const int error : {EAGAIN, ENOBUFS}) {
    const intercept<&system::calls::sendmsg> sending([&](auto real, int fd, const msghdr* message, int flags) {
      if (sending.calls() % 2 != 0) return real(fd, message, flags);
      errno = error;
      return ssize_t{-1};
    });
    co_await converse();
  }
}

ASYNC_TEST("nothing is lost when bytes go and come one at a time") {
  const byte_by_byte slow;
  co_await converse();
}

ASYNC_TEST("a write that stops after any number of bytes goes on where it was") {
  for (std::size_t cut = 1; cut < 150; ++cut) {
    const intercept<&system::calls::sendmsg> sending([&](auto real, int fd, const msghdr* message, int flags) {
      // the hellos go whole; then every third call is refused, and the others take so many bytes at most
      msghdr part = *message;
      iovec first = message->msg_iov[0];
      first.iov_len = std::min(first.iov_len, cut);
      if (sending.calls() > 2) {
        part.msg_iov = &first;
        part.msg_iovlen = 1;
      }
      if (sending.calls() <= 2 || sending.calls() % 3 != 0) return real(fd, &part, flags);
      errno = EAGAIN;
      return ssize_t{-1};
    });
    const auto executor = co_await asio::this_coro::executor;
    talking both(executor);
    const number with{7};
    descriptor object(::eventfd(7, EFD_CLOEXEC));
    outcome_of<void> giving(executor, both.here.send_handle(with, std::move(object)));
    for (std::uint64_t i = 0; i < 5; ++i) both.here.post(number{i});
    outcome_of<void> ending(executor, both.here.disconnect());
    const auto got = co_await both.there.receive_handle();
    REQUIRE(got);
    eventfd_t value = 0;
    ::eventfd_read(got->handle.native_handle(), &value);
    CHECK(value == 7);
    const auto heard = co_await all(both.there);
    CHECK(heard == strings{"0", "1", "2", "3", "4"});
    co_await giving.get();
    co_await ending.get();
  }
}

ASYNC_TEST("a write that fails for good ends the sending, and the peer sees it") {
  const auto executor = co_await asio::this_coro::executor;
  for (const auto& [error, code_of] : {std::pair{EPIPE, make_error_code(errc::peer_closed)},
                                       {ECONNRESET, make_error_code(errc::peer_closed)},
                                       {EPERM, std::error_code(EPERM, std::system_category())}}) {
    talking both(executor);
    co_await both.here.send<number>(1u);
    descriptor object(::eventfd(0, EFD_CLOEXEC));
    const number with{1};
    {
      const fault<&system::calls::sendmsg> broken(error);
      auto code = co_await error_of(both.here.send<number>(2u));
      CHECK(code == code_of);
    }
    auto code = co_await error_of(both.here.send<number>(3u));
    CHECK(code == code_of);
    code = co_await error_of(both.here.send_handle(with, std::move(object)));
    CHECK(code == code_of);
    CHECK(object);
    code = co_await error_of(both.here.flush());
    CHECK(code == code_of);
    CHECK_THROWS_AS(both.here.post(with), std::system_error);
    co_await both.here.disconnect();
    const auto heard = co_await all(both.there);
    CHECK(heard == strings{"1"});
  }
}

ASYNC_TEST("what the peer had sent is received after writing to it has failed") {
  talking both(co_await asio::this_coro::executor);
  co_await both.there.send<number>(1u);
  {
    const fault<&system::calls::sendmsg> broken(EPIPE);
    const auto code = co_await error_of(both.here.send<number>(2u));
    CHECK(code == errc::peer_closed);
  }
  const auto heard = co_await next(both.here);
  CHECK(heard == "1");
}

ASYNC_TEST("a reset is an end") {
  talking both(co_await asio::this_coro::executor);
  co_await both.there.send<number>(1u);
  auto heard = co_await next(both.here);
  CHECK(heard == "1");
  co_await both.there.send<number>(2u);  // so that the socket is readable
  const fault<&system::calls::recvmsg> reset(ECONNRESET);
  heard = co_await next(both.here);
  CHECK(heard == "(end)");
  CHECK(reset.failed() == 1);
}

ASYNC_TEST("a read that fails for good ends the channel, and says why") {
  talking both(co_await asio::this_coro::executor);
  co_await both.there.send<number>(1u);
  {
    const fault<&system::calls::recvmsg> broken(EIO);
    const auto what = co_await text_of(both.here.receive());
    CHECK(what == "receive: recvmsg: Input/output error");
  }
  const auto code = co_await error_of(both.here.receive());
  CHECK(code == std::error_code(EIO, std::system_category()));
  CHECK_FALSE(both.here.is_open());
  const auto heard = co_await next(both.there);
  CHECK(heard == "(end)");
}

ASYNC_TEST("a kernel that is short of memory is asked again, and does not stop the loop") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  auto short_of = std::make_unique<fault<&system::calls::sendmsg>>(ENOBUFS, 1, every_time);
  outcome_of<void> sending(executor, both.here.send<number>(1u));
  const bool again = co_await eventually([&] { return short_of->failed() >= 2; });
  CHECK(again);
  CHECK_FALSE(sending.is_there());
  short_of.reset();
  co_await sending.get();
  const auto heard = co_await next(both.there);
  CHECK(heard == "1");
}

ASYNC_TEST("a handle that cannot be sent for now can be taken back") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  descriptor object(::eventfd(0, EFD_CLOEXEC));
  const number with{1};
  asio::cancellation_signal cancel;
  std::optional<std::error_code> ended;
  {
    const fault<&system::calls::sendmsg> full(ETOOMANYREFS, 1, every_time);
    auto give = [&]() -> asio::awaitable<void> { co_await both.here.send_handle(with, std::move(object)); };
    asio::co_spawn(executor, give(), asio::bind_cancellation_slot(cancel.slot(), [&](std::exception_ptr failure) {
                     try {
                       if (failure) std::rethrow_exception(failure);
                       ended.emplace();
                     } catch (const std::system_error& error) {
                       ended = error.code();
                     }
                   }));
    co_await yield(5);
    CHECK(full.failed() > 0);
    cancel.emit(asio::cancellation_type::terminal);
    co_await yield(5);
  }
  CHECK(ended == operation_aborted());
  CHECK(object);
  object.reset();  // its number may be another file's when writing goes on
  co_await both.here.send<number>(5u);
  const auto heard = co_await next(both.there);
  CHECK(heard == "5");
}

/// A kernel that passes all descriptors but one.
struct refuses {
  refuses(int error, int fd)
      : sending([error, fd](auto real, int socket, const msghdr* message, int flags) {
          if (!holds(message, fd)) return real(socket, message, flags);
          errno = error;
          return ssize_t{-1};
        }) {}

  static bool holds(const msghdr* message, int fd) {
    if (message->msg_controllen == 0) return false;
    const cmsghdr* const rights = CMSG_FIRSTHDR(message);
    for (std::size_t at = CMSG_LEN(0); at < rights->cmsg_len; at += sizeof(int)) {
      int each = -1;
      std::memcpy(&each, reinterpret_cast<const char*>(rights) + at, sizeof each);
      if (each == fd) return true;
    }
    return false;
  }

  const intercept<&system::calls::sendmsg> sending;
};

ASYNC_TEST("one handle that the kernel refuses fails alone: the others arrive, and the channel goes on") {
  const auto executor = co_await asio::this_coro::executor;
  for (const int error : {EINVAL, EBADF, EPERM, ELOOP}) {
    for (std::size_t bad = 0; bad < 5; ++bad) {
      talking both(executor);
      std::vector<descriptor> objects;
      for (unsigned i = 0; i < 5; ++i) objects.emplace_back(::eventfd(i + 1, EFD_CLOEXEC));
      const int refused = objects[bad].get();
      const refuses kernel(error, refused);
      std::vector<std::unique_ptr<outcome_of<void>>> giving;
      std::vector<number> numbers;
      for (std::uint64_t i = 0; i < 5; ++i) numbers.push_back(number{i});
      for (std::size_t i = 0; i < 5; ++i) {  // between messages, all in one turn
        both.here.post(numbers[i]);
        giving.push_back(std::make_unique<outcome_of<void>>(
            executor, both.here.send_handle(numbers[i], std::move(objects[i]))));
      }
      strings taken;
      for (int i = 0; i < 4; ++i) {
        const auto got = co_await both.there.receive_handle();
        REQUIRE(got);
        eventfd_t value = 0;
        ::eventfd_read(got->handle.native_handle(), &value);
        taken.push_back(as_string(got->message) + " with " + std::to_string(value));
      }
      for (std::size_t i = 0; i < 5; ++i) {
        const auto code = co_await error_of(giving[i]->get());
        CHECK(code == (i == bad ? std::error_code(error, std::system_category()) : std::error_code()));
        CHECK(static_cast<bool>(objects[i]) == (i == bad));
      }
      strings expected;
      for (std::size_t i = 0; i < 5; ++i) {
        if (i != bad) expected.push_back(std::to_string(i) + " with " + std::to_string(i + 1));
      }
      CHECK(taken == expected);
      co_await both.here.send<number>(5u);
      co_await both.here.disconnect();
      const auto heard = co_await all(both.there);
      CHECK(heard == strings{"0", "1", "2", "3", "4", "5"});
    }
  }
}

ASYNC_TEST("a refused handle says which step failed, and can be sent as soon as the kernel passes it") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  descriptor object(::eventfd(3, EFD_CLOEXEC));
  const number with{1};
  {
    const refuses kernel(EINVAL, object.get());
    const auto what = co_await text_of(both.here.send_handle(with, std::move(object)));
    CHECK(what == "send_handle: the system does not pass this handle on: Invalid argument");
  }
  REQUIRE(object);
  outcome_of<void> giving(executor, both.here.send_handle(with, std::move(object)));
  const auto got = co_await both.there.receive_handle();
  CHECK(got);
  co_await giving.get();
  CHECK_FALSE(object);
}

ASYNC_TEST("an io_uring, which Linux passes to nobody, stays with its owner, and the channel goes on") {
  const auto executor = co_await asio::this_coro::executor;
  alignas(8) char parameters[120] = {};
  descriptor ring(static_cast<int>(::syscall(SYS_io_uring_setup, 4, parameters)));
  if (!ring) co_return;  // not allowed here
  talking both(executor);
  const number with{1};
  outcome_of<void> giving(executor, both.here.send_handle(with, std::move(ring)));
  outcome_of<std::optional<received<any_message>>> taking(executor, both.there.receive_handle());
  const bool ended = co_await eventually([&] { return giving.is_there() || taking.is_there(); });
  REQUIRE(ended);
  if (taking.is_there()) co_return;  // before Linux 6.7 it does
  const auto code = co_await error_of(giving.get());
  CHECK(code == std::error_code(EINVAL, std::system_category()));
  CHECK(ring);
  co_await both.here.send<number>(2u);
  const auto heard = co_await next(both.there);
  CHECK(heard == "2");
  both.there.close();
  co_await error_of(taking.get());
}

}  // namespace
}  // namespace cohort::test::fault_test
