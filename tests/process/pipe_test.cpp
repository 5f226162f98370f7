// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/process/pipe.hpp"

#include <cerrno>
#include <csignal>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "../support/cancellation.hpp"
#include "../support/fault.hpp"
#include "children.hpp"

namespace cohort::test::pipe_test {
namespace {

struct ends {
  descriptor reading, writing;
};

ends make_pipe() {
  int made[2];
  REQUIRE(::pipe2(made, O_CLOEXEC) == 0);
  return {descriptor(made[0]), descriptor(made[1])};
}

void put(const descriptor& end, std::string_view text) {
  REQUIRE(::write(end.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

std::string take(const descriptor& end) {
  char buffer[256];
  const auto size = ::read(end.get(), buffer, sizeof buffer);
  return std::string(buffer, size > 0 ? static_cast<std::size_t>(size) : 0);
}

constexpr std::size_t pipe_capacity = 64 * 1024;  // pipe(7)

bool sigpipe_is_pending() {
  sigset_t pending;
  ::sigpending(&pending);
  return ::sigismember(&pending, SIGPIPE) == 1;
}

ASYNC_TEST("a pipe that is closed says so") {
  write_pipe in;
  read_pipe out;
  CHECK_FALSE(in.is_open());
  CHECK(out.native_handle() == -1);
  CHECK_FALSE(out.get_executor());
  const auto write = co_await text_of(in.write("x"));
  CHECK(write == "pipe: write: already closed on this side");
  char buffer[1];
  const auto read = co_await text_of(out.read_some(asio::buffer(buffer)));
  CHECK(read == "pipe: read: already closed on this side");
  const auto all = co_await error_of(out.read_all());
  CHECK(all == errc::closed);
  in.close();
}

ASYNC_TEST("what is written comes out, and its end is a value") {
  auto pipe = make_pipe();
  const auto executor = co_await asio::this_coro::executor;
  write_pipe in(executor, std::move(pipe.writing));
  read_pipe out(executor, std::move(pipe.reading));
  CHECK(in.get_executor() == executor);
  co_await in.write("hello");
  char buffer[16];
  const auto some = co_await out.read_some(asio::buffer(buffer));
  CHECK(std::string_view(buffer, some) == "hello");
  in.close();
  CHECK_FALSE(in.is_open());
  for (int i = 0; i < 2; ++i) {
    const auto end = co_await out.read_some(asio::buffer(buffer));
    CHECK(end == 0);
  }
}

ASYNC_TEST("a pipe can be moved") {
  auto pipe = make_pipe();
  const auto executor = co_await asio::this_coro::executor;
  write_pipe in(executor, std::move(pipe.writing));
  auto other = std::move(in);
  CHECK_FALSE(in.is_open());
  co_await other.write("x");
  read_pipe out(executor, std::move(pipe.reading)), another;
  another = std::move(out);
  CHECK_FALSE(out.is_open());
  other.close();
  const auto text = co_await another.read_all();
  CHECK(text == "x");
}

ASYNC_TEST("only this end of a pipe is non-blocking") {
  auto pipe = make_pipe();
  const write_pipe in(co_await asio::this_coro::executor, std::move(pipe.writing));
  CHECK((::fcntl(pipe.reading.get(), F_GETFL) & O_NONBLOCK) == 0);
}

ASYNC_TEST("more than a pipe holds goes through it in both directions") {
  auto started = co_await spawn(helper("cat").in(stdio::pipe).out(stdio::pipe));
  const std::string sent(3 * 1024 * 1024, 'x');
  const auto write = [&]() -> asio::awaitable<void> {
    co_await started.in().write(sent);
    started.in().close();
  };
  asio::co_spawn(co_await asio::this_coro::executor, write(), asio::detached);
  const auto received = co_await started.out().read_all(sent.size());
  CHECK(received == sent);
  co_await started.wait();
}

ASYNC_TEST("a reader that is gone is an error and no SIGPIPE") {
  const auto executor = co_await asio::this_coro::executor;
  const bool deadly = std::signal(SIGPIPE, SIG_DFL) == SIG_DFL;
  REQUIRE(deadly);
  auto pipe = make_pipe();
  write_pipe in(executor, std::move(pipe.writing));
  pipe.reading.reset();
  for (int i = 0; i < 2; ++i) {
    const auto text = co_await text_of(in.write("x"));
    CHECK(text == "pipe: write: Broken pipe");
    CHECK_FALSE(sigpipe_is_pending());
  }

  auto deaf = co_await spawn(helper("close-stdin").in(stdio::pipe).out(stdio::pipe));
  co_await deaf.out().read_line();
  const auto code = co_await error_of(deaf.in().write("x"));
  CHECK(code == std::error_code(EPIPE, std::system_category()));
}

ASYNC_TEST("a reader that goes while a write waits is an error and no SIGPIPE") {
  const auto executor = co_await asio::this_coro::executor;
  auto pipe = make_pipe();
  write_pipe in(executor, std::move(pipe.writing));
  asio::post(executor, [&] { pipe.reading.reset(); });
  const auto code = co_await error_of(in.write(std::string(2 * pipe_capacity, 'x')));
  CHECK(code == std::error_code(EPIPE, std::system_category()));
}

ASYNC_TEST("a SIGPIPE that was pending before a failed write still is") {
  auto pipe = make_pipe();
  write_pipe in(co_await asio::this_coro::executor, std::move(pipe.writing));
  pipe.reading.reset();
  sigset_t set, before;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &set, &before);
  const auto first = co_await error_of(in.write("x"));
  CHECK_FALSE(sigpipe_is_pending());
  ::raise(SIGPIPE);
  const auto second = co_await error_of(in.write("x"));
  CHECK(sigpipe_is_pending());
  const timespec at_once{};
  ::sigtimedwait(&set, nullptr, &at_once);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  CHECK(first == std::error_code(EPIPE, std::system_category()));
  CHECK(second == first);
}

ASYNC_TEST("a write survives interruptions and short writes") {
  auto pipe = make_pipe();
  write_pipe in(co_await asio::this_coro::executor, std::move(pipe.writing));
  {
    const fault<&system::calls::write> interrupted(EINTR, 1, 3);
    co_await in.write("one ");
    CHECK(interrupted.calls() == 4);
  }
  {
    const fault<&system::calls::write> full(EAGAIN);
    co_await in.write("two ");
    CHECK(full.failed() == 1);
  }
  {
    const intercept<&system::calls::write> small(
        [](auto real, int fd, const void* data, std::size_t size) { return real(fd, data, size > 1 ? 1 : size); });
    co_await in.write("three");
    CHECK(small.calls() == 5);
  }
  const auto text = take(pipe.reading);
  CHECK(text == "one two three");
  const fault<&system::calls::write> failing(EIO);
  const auto failed = co_await text_of(in.write("x"));
  CHECK(failed == "pipe: write: Input/output error");
}

PLAIN_TEST("a cancelled write_some has written nothing") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    auto pipe = make_pipe();
    const auto executor = co_await asio::this_coro::executor;
    write_pipe in(executor, std::move(pipe.writing));
    read_pipe out(executor, std::move(pipe.reading));
    const std::string full(pipe_capacity, 'x');
    co_await in.write(full);
    std::string received;
    const auto drain = [&]() -> asio::awaitable<void> {
      co_await yield(5);
      received.resize(pipe_capacity);
      const auto size = co_await out.read_some(asio::buffer(received));
      received.resize(size);
    };
    asio::co_spawn(executor, drain(), asio::detached);
    const auto written = co_await cancelled(in.write_some(asio::buffer("abc", 3)));
    co_await yield(20);
    in.close();
    const auto rest = co_await out.read_all();
    CHECK(received + rest == full + (written ? "abc" : ""));
  });
  CHECK(cancelled_runs > 0);
}

PLAIN_TEST("a cancelled read loses nothing") {
  enum class kind { some, all, line };
  for (const auto which : {kind::some, kind::all, kind::line}) {
    const auto cancelled_runs = cancel_at_every_turn([&](cancellation& cancelled) -> asio::awaitable<void> {
      auto pipe = make_pipe();
      const auto executor = co_await asio::this_coro::executor;
      read_pipe out(executor, std::move(pipe.reading));
      put(pipe.writing, "a");
      asio::steady_timer soon(executor, 5ms), later(executor, 10ms);
      soon.async_wait([&](std::error_code error) {
        if (!error) put(pipe.writing, "b");
      });
      later.async_wait([&](std::error_code) {
        put(pipe.writing, "c\nd");
        pipe.writing.reset();
      });
      std::string received;
      if (which == kind::some) {
        char buffer[16];
        const auto size = co_await cancelled(out.read_some(asio::buffer(buffer)));
        if (size) received.assign(buffer, *size);
      } else if (which == kind::all) {
        const auto text = co_await cancelled(out.read_all());
        if (text) received = *text;
      } else {
        const auto line = co_await cancelled(out.read_line());
        if (line) received = line->value() + '\n';
      }
      // "b" is missing where the first timer was cancelled with nothing, never where it was written
      const auto rest = co_await out.read_all();
      received += rest;
      CHECK(received == "abc\nd");
    });
    CHECK(cancelled_runs > 0);
  }
}

ASYNC_TEST("read_all stops at its limit, and what was read can still be read") {
  auto started = co_await spawn(helper("fill", "100000").out(stdio::pipe));
  const auto text = co_await text_of(started.out().read_all(99'999));
  CHECK(text == "pipe: read_all: output too large");
  const auto again = co_await error_of(started.out().read_all(1'000));
  CHECK(again == errc::output_too_large);
  char buffer[10];
  const auto some = co_await started.out().read_some(asio::buffer(buffer));
  CHECK(some == 10);
  const auto rest = co_await started.out().read_all(99'990);
  CHECK(rest.size() == 99'990);
  co_await started.wait();

  auto exact = co_await spawn(helper("fill", "100000").out(stdio::pipe));
  const auto all = co_await exact.out().read_all(100'000);
  CHECK(all.size() == 100'000);
  co_await exact.wait();

  auto nothing = co_await spawn(helper("fill", "0").out(stdio::pipe));
  const auto none = co_await nothing.out().read_all(0);
  CHECK(none.empty());
  co_await nothing.wait();
}

ASYNC_TEST("lines come one by one, the last one without its newline as well") {
  auto pipe = make_pipe();
  read_pipe out(co_await asio::this_coro::executor, std::move(pipe.reading));
  put(pipe.writing, "one\n\nthree\nfo");
  const auto one = co_await out.read_line();
  CHECK(one == "one");
  const auto two = co_await out.read_line();
  CHECK(two == "");
  const auto three = co_await out.read_line();
  CHECK(three == "three");
  asio::post(co_await asio::this_coro::executor, [&] {
    put(pipe.writing, "ur\nfive");
    pipe.writing.reset();
  });
  const auto four = co_await out.read_line();
  CHECK(four == "four");
  const auto five = co_await out.read_line();
  CHECK(five == "five");
  for (int i = 0; i < 2; ++i) {
    const auto end = co_await out.read_line();
    CHECK_FALSE(end.has_value());
  }
}

ASYNC_TEST("many lines of every length come out as they went in, whatever is read between them") {
  std::string written;
  for (int i = 0; i < 20'000; ++i) written += std::string(static_cast<std::size_t>(i % 41), 'x') + '\n';
  auto writer = co_await spawn(command("cat").in(stdio::pipe).out(stdio::pipe));
  const auto write = [&]() -> asio::awaitable<void> {
    co_await writer.in().write(written);
    writer.in().close();
  };
  asio::co_spawn(co_await asio::this_coro::executor, write(), asio::detached);
  std::string seen;
  for (int i = 0; i < 15'000; ++i) {
    if (i % 100 != 0) {
      const auto line = co_await writer.out().read_line();
      REQUIRE(line);
      seen += *line + '\n';
      continue;
    }
    char some[7];
    const auto size = co_await writer.out().read_some(asio::buffer(some));
    seen.append(some, size);
  }
  auto moved = std::move(writer.out());
  seen += co_await moved.read_all();
  CHECK(seen.size() == written.size());
  CHECK((seen == written));
  const auto end = co_await moved.read_line();
  CHECK_FALSE(end);
  co_await writer.wait();
}

ASYNC_TEST("a line over the limit is an error, and can then be read with a higher one") {
  auto pipe = make_pipe();
  read_pipe out(co_await asio::this_coro::executor, std::move(pipe.reading));
  put(pipe.writing, "1234\n12345\n1\n");
  const auto fits = co_await out.read_line(4);
  CHECK(fits == "1234");
  const auto text = co_await text_of(out.read_line(4));
  CHECK(text == "pipe: read_line: output too large");
  const auto higher = co_await out.read_line(5);
  CHECK(higher == "12345");
  const auto last = co_await out.read_line(1);
  CHECK(last == "1");
}

ASYNC_TEST("closing a pipe ends a read that waits on it") {
  auto pipe = make_pipe();
  read_pipe out(co_await asio::this_coro::executor, std::move(pipe.reading));
  asio::post(co_await asio::this_coro::executor, [&] { out.close(); });
  const auto code = co_await error_of(out.read_all());
  CHECK(code == operation_aborted());
}

bool hangs_up(read_pipe& pipe) {
  pollfd look{pipe.native_handle(), 0, 0};
  return ::poll(&look, 1, 0) > 0;
}

ASYNC_TEST("a pipe is closed when nobody holds its other end, and what was written before stays readable") {
  auto pipe = make_pipe();
  const auto executor = co_await asio::this_coro::executor;
  read_pipe out(executor, std::move(pipe.reading));
  put(pipe.writing, "one\ntwo");
  descriptor copy(::fcntl(pipe.writing.get(), F_DUPFD_CLOEXEC, 0));
  bool closed = false;
  const auto wait = [&]() -> asio::awaitable<void> {
    co_await out.closed();
    closed = true;
  };
  asio::co_spawn(executor, wait(), asio::detached);
  co_await yield(3);
  const auto one = co_await out.read_line();  // beside the wait
  CHECK(one == "one");
  pipe.writing.reset();
  co_await yield(3);
  CHECK_FALSE(closed);
  put(copy, "three");
  copy.reset();
  const bool ended = co_await eventually([&] { return closed; });
  CHECK(ended);
  const auto rest = co_await out.read_all();
  CHECK(rest == "twothree");
}

ASYNC_TEST("a pipe that hung up before anybody looked is closed") {
  auto pipe = make_pipe();
  const auto executor = co_await asio::this_coro::executor;
  read_pipe out(executor, std::move(pipe.reading));
  put(pipe.writing, "unread");
  co_await yield(3);
  pipe.writing.reset();
  co_await yield(3);
  REQUIRE(hangs_up(out));
  int turns = 0;
  asio::post(executor, [&] { ++turns; });
  co_await out.closed();
  CHECK(turns == 0);

  // the reactor tells it as well: it has reported the hang-up once, to nobody
  asio::posix::stream_descriptor same(executor, ::fcntl(out.native_handle(), F_DUPFD_CLOEXEC, 0));
  co_await yield(3);
  for (int i = 0; i < 2; ++i) {
    co_await same.async_wait(asio::posix::stream_descriptor::wait_error, asio::use_awaitable);
  }
  const auto text = co_await out.read_all();
  CHECK(text == "unread");
  co_await out.closed();
}

ASYNC_TEST("several can wait until a pipe is closed, and a pipe to write to is closed as well") {
  auto pipe = make_pipe();
  const auto executor = co_await asio::this_coro::executor;
  write_pipe in(executor, std::move(pipe.writing));
  int closed = 0;
  const auto wait = [&]() -> asio::awaitable<void> {
    co_await in.closed();
    ++closed;
  };
  for (int i = 0; i < 3; ++i) asio::co_spawn(executor, wait(), asio::detached);
  co_await in.write("x");
  co_await yield(3);
  CHECK(closed == 0);
  pipe.reading.reset();
  const bool all = co_await eventually([&] { return closed == 3; });
  CHECK(all);
  in.close();
  const auto text = co_await text_of(in.closed());
  CHECK(text == "pipe: closed: already closed on this side");
}

ASYNC_TEST("closing this end ends a wait for the other one") {
  auto pipe = make_pipe();
  read_pipe out(co_await asio::this_coro::executor, std::move(pipe.reading));
  asio::post(co_await asio::this_coro::executor, [&] { out.close(); });
  const auto code = co_await error_of(out.closed());
  CHECK(code == operation_aborted());
}

PLAIN_TEST("a cancelled wait until a pipe is closed changes nothing") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    auto pipe = make_pipe();
    const auto executor = co_await asio::this_coro::executor;
    read_pipe out(executor, std::move(pipe.reading));
    put(pipe.writing, "text");
    asio::steady_timer soon(executor, 5ms);
    soon.async_wait([&](std::error_code) { pipe.writing.reset(); });
    const auto closed = co_await cancelled(out.closed());
    if (!closed) co_await out.closed();
    const auto text = co_await out.read_all();
    CHECK(text == "text");
  });
  CHECK(cancelled_runs > 0);
}

ASYNC_TEST("a released end is blocking and close-on-exec, and gone from here") {
  auto pipe = make_pipe();
  const auto executor = co_await asio::this_coro::executor;
  write_pipe in(executor, std::move(pipe.writing));
  read_pipe out(executor, std::move(pipe.reading));
  co_await in.write("text");
  const auto reading_number = out.native_handle();
  const auto reading = out.release();
  const auto writing = in.release();
  CHECK(reading.get() == reading_number);
  for (const auto* end : {&reading, &writing}) {
    CHECK((::fcntl(end->get(), F_GETFL) & O_NONBLOCK) == 0);
    CHECK(::fcntl(end->get(), F_GETFD) == FD_CLOEXEC);
  }
  CHECK_FALSE(in.is_open());
  CHECK_FALSE(out.is_open());
  CHECK(take(reading) == "text");

  std::string text;
  try {
    const auto none = out.release();
  } catch (const std::system_error& error) {
    text = error.what();
  }
  CHECK(text == "pipe: release: already closed on this side");
}

ASYNC_TEST("a pipe out of which more was read than asked for is not released") {
  auto pipe = make_pipe();
  read_pipe out(co_await asio::this_coro::executor, std::move(pipe.reading));
  put(pipe.writing, "one\ntwo");
  const auto line = co_await out.read_line();
  CHECK(line == "one");
  std::string text;
  try {
    const auto end = out.release();
  } catch (const std::system_error& error) {
    text = error.what();
  }
  CHECK(text == "pipe: release with 3 bytes read ahead: Device or resource busy");
  REQUIRE(out.is_open());
  char buffer[8];
  const auto some = co_await out.read_some(asio::buffer(buffer));
  CHECK(std::string_view(buffer, some) == "two");
  put(pipe.writing, "three");
  const auto end = out.release();
  CHECK(take(end) == "three");
}

ASYNC_TEST("releasing a pipe ends a read that waits on it") {
  auto pipe = make_pipe();
  read_pipe out(co_await asio::this_coro::executor, std::move(pipe.reading));
  descriptor released;
  asio::post(co_await asio::this_coro::executor, [&] { released = out.release(); });
  const auto code = co_await error_of(out.read_all());
  CHECK(code == operation_aborted());
  CHECK(released);
}

ASYNC_TEST("three children make a pipeline, and each has its status") {
  constexpr std::size_t size = 20'000'000;  // far more than the pipes hold
  auto first = co_await spawn(helper("fill", std::to_string(size)).out(stdio::pipe));
  auto second = co_await spawn(helper("cat").in(first.out().release()).out(stdio::pipe));
  auto third = co_await spawn(command("wc", "-c").in(second.out().release()).out(stdio::pipe));
  const auto text = co_await third.out().read_line();
  CHECK(text == std::to_string(size));
  for (auto* each : {&first, &second, &third}) {
    const auto status = co_await each->wait();
    CHECK(status == exit_status::exited(0));
  }
}

ASYNC_TEST("a pipeline can be made from its end, and SIGPIPE ends those before one that has enough") {
  auto last = co_await spawn(command("head", "-c", "100000").in(stdio::pipe).out(stdio::pipe));
  auto middle = co_await spawn(helper("cat").in(stdio::pipe).out(last.in().release()));
  auto first = co_await spawn(helper("flood").out(middle.in().release()));
  const auto text = co_await last.out().read_all();
  CHECK(text.size() == 100'000);
  const auto ended = co_await last.wait();
  CHECK(ended == exit_status::exited(0));
  const auto cut = co_await middle.wait();
  CHECK(cut == exit_status::killed(SIGPIPE));
  const auto flood = co_await first.wait();
  CHECK(flood == exit_status::killed(SIGPIPE));
}

}  // namespace
}  // namespace cohort::test::pipe_test
