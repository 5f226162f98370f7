// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/process/child.hpp"
#include "../../include/cohort/core/timeout.hpp"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include "../support/cancellation.hpp"
#include "../support/fault.hpp"
#include "children.hpp"
#include "processes.hpp"

namespace cohort::test::child_test {
namespace {

command sleeper() { return helper("sleep", "600000"); }

// A child that has told that SIGTERM no longer ends it.
asio::awaitable<child> stubborn() {
  auto started = co_await spawn(helper("ignore-term", "600000").out(stdio::pipe));
  const auto line = co_await started.out().read_line();
  CHECK(line == "ready");
  co_return started;
}

// Whether a child of this process is there, running or dead.
bool exists(pid_t pid) {
  siginfo_t info;
  return ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

asio::awaitable<void> until_dead(const child& what) {
  const bool dead = co_await eventually([&] {
    siginfo_t info = {};
    ::waitid(P_PID, static_cast<id_t>(what.pid()), &info, WEXITED | WNOHANG | WNOWAIT);
    return info.si_pid != 0;
  });
  CHECK(dead);
}

std::error_code thrown_by(auto&& function) {
  try {
    function();
  } catch (const std::system_error& error) {
    return error.code();
  }
  return {};
}

ASYNC_TEST("a child that is none says so") {
  child none;
  CHECK_FALSE(none);
  CHECK(none.pid() == 0);
  CHECK(none.native_handle() == -1);
  CHECK_FALSE(none.get_executor());
  CHECK_FALSE(none.running());
  CHECK(thrown_by([&] { none.signal(SIGTERM); }) == errc::no_child);
  const auto wait = co_await text_of(none.wait());
  CHECK(wait == "child: wait: there is no child");
  const auto stop = co_await error_of(none.stop());
  CHECK(stop == errc::no_child);
  const auto closed = co_await error_of(none.out().read_all());
  CHECK(closed == errc::closed);
  none.detach();
}

ASYNC_TEST("a child that has ended is reaped by wait, and its status stays") {
  auto started = co_await spawn(helper("exit-code", "3"));
  CHECK(started);
  CHECK(started.native_handle() >= 0);
  const auto status = co_await started.wait();
  CHECK(status == exit_status::exited(3));
  CHECK_FALSE(exists(started.pid()));
  CHECK_FALSE(started.running());
  CHECK(started);
  CHECK(started.native_handle() == -1);

  int turns = 0;
  asio::post(co_await asio::this_coro::executor, [&] { ++turns; });
  const auto again = co_await started.wait();
  CHECK(again == exit_status::exited(3));
  CHECK(turns == 0);
}

ASYNC_TEST("waiting for a child that is dead already does not suspend") {
  auto started = co_await spawn(helper("exit-code", "0"));
  co_await until_dead(started);
  int turns = 0;
  asio::post(co_await asio::this_coro::executor, [&] { ++turns; });
  const auto status = co_await started.wait();
  CHECK(status.success());
  CHECK(turns == 0);
}

ASYNC_TEST("each of several waiters gets the status") {
  auto started = co_await spawn(helper("cat").in(stdio::pipe));
  const auto executor = co_await asio::this_coro::executor;
  std::vector<exit_status> statuses;
  const auto wait = [&]() -> asio::awaitable<void> {
    const auto status = co_await started.wait();
    statuses.push_back(status);
  };
  for (int i = 0; i < 5; ++i) asio::co_spawn(executor, wait(), asio::detached);
  co_await yield(3);
  CHECK(statuses.empty());
  started.in().close();
  co_await started.wait();
  const bool all = co_await eventually([&] { return statuses.size() == 5; });
  CHECK(all);
  for (const auto& status : statuses) CHECK(status.success());
}

ASYNC_TEST("a waiter that is cancelled does not disturb another one") {
  auto started = co_await spawn(helper("cat").in(stdio::pipe));
  const auto executor = co_await asio::this_coro::executor;
  asio::cancellation_signal cancel;
  std::error_code cancelled;
  std::optional<exit_status> status;
  const auto first = [&]() -> asio::awaitable<void> { cancelled = co_await error_of(started.wait()); };
  const auto second = [&]() -> asio::awaitable<void> { status = co_await started.wait(); };
  asio::co_spawn(executor, first(), asio::bind_cancellation_slot(cancel.slot(), asio::detached));
  asio::co_spawn(executor, second(), asio::detached);
  co_await yield(3);
  cancel.emit(asio::cancellation_type::terminal);
  co_await yield(3);
  CHECK(cancelled == operation_aborted());
  CHECK_FALSE(status.has_value());
  started.in().close();
  const bool done = co_await eventually([&] { return status.has_value(); });
  CHECK(done);
  CHECK(status == exit_status::exited(0));
}

PLAIN_TEST("a cancelled wait leaves the child running and can be repeated") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    auto started = co_await spawn(helper("cat").in(stdio::pipe));
    asio::steady_timer soon(co_await asio::this_coro::executor, 20ms);
    soon.async_wait([&](std::error_code error) {
      if (!error) started.in().close();
    });
    auto status = co_await cancelled(started.wait());
    if (!status) {
      CHECK(started.running());
      started.in().close();
      status = co_await started.wait();
    }
    CHECK(status == exit_status::exited(0));
  });
  CHECK(cancelled_runs > 0);
}

ASYNC_TEST("a status that somebody else has taken is an error, each time") {
  auto started = co_await spawn(helper("exit-code", "0"));
  ::waitpid(started.pid(), nullptr, 0);
  for (int i = 0; i < 2; ++i) {
    const auto text = co_await text_of(started.wait());
    CHECK(text == "child: wait: the exit status was collected by somebody else");
    const auto code = co_await error_of(started.wait());
    CHECK(code == errc::status_taken);
  }
  CHECK_FALSE(started.running());
  CHECK_FALSE(started.signal(SIGTERM));
  const auto stopped = co_await error_of(started.stop());
  CHECK(stopped == errc::status_taken);
}

ASYNC_TEST("a status that is taken while a coroutine waits is an error there too") {
  auto started = co_await spawn(helper("cat").in(stdio::pipe));
  const auto executor = co_await asio::this_coro::executor;
  std::error_code code;
  const auto wait = [&]() -> asio::awaitable<void> { code = co_await error_of(started.wait()); };
  asio::co_spawn(executor, wait(), asio::detached);
  co_await yield(3);
  started.in().close();
  ::waitpid(started.pid(), nullptr, 0);
  const bool thrown = co_await eventually([&] { return static_cast<bool>(code); });
  CHECK(thrown);
  CHECK(code == errc::status_taken);
}

ASYNC_TEST("a wait that the kernel fails can be repeated") {
  auto started = co_await spawn(helper("exit-code", "7"));
  {
    const fault<&system::calls::waitid> failing(ENOMEM);
    const auto code = co_await error_of(started.wait());
    CHECK(code == std::error_code(ENOMEM, std::system_category()));
  }
  const fault<&system::calls::waitid> interrupted(EINTR, 1, 2);
  const auto status = co_await started.wait();
  CHECK(status == exit_status::exited(7));
}

ASYNC_TEST("running tells whether a child lives, and reaps it when it does not") {
  auto started = co_await spawn(helper("cat").in(stdio::pipe));
  CHECK(started.running());
  started.in().close();
  const bool ended = co_await eventually([&] { return !started.running(); });
  CHECK(ended);
  CHECK_FALSE(exists(started.pid()));
  const auto status = co_await started.wait();
  CHECK(status.success());
}

ASYNC_TEST("a signal reaches the child while it lives, and nobody after that") {
  auto started = co_await spawn(sleeper());
  CHECK(started.signal(0));
  CHECK(thrown_by([&] { started.signal(1'000); }) == std::error_code(EINVAL, std::system_category()));
  CHECK(started.signal(SIGUSR1));
  co_await until_dead(started);
  CHECK(started.signal(SIGTERM));  // dead, but not reaped: it is still there to be signalled
  const auto status = co_await started.wait();
  CHECK(status == exit_status::killed(SIGUSR1));
  const intercept<&system::calls::pidfd_send_signal> counted(
      [](auto real, int pidfd, int signal) { return real(pidfd, signal); });
  CHECK_FALSE(started.signal(SIGTERM));
  CHECK_FALSE(started.signal(0));
  CHECK(counted.calls() == 0);
}

ASYNC_TEST("a stop asks with SIGTERM first") {
  auto started = co_await spawn(sleeper());
  const auto status = co_await started.stop();
  CHECK(status == exit_status::killed(SIGTERM));
}

ASYNC_TEST("a stop goes on to SIGKILL when a child does not listen") {
  auto started = co_await stubborn();
  const auto status = co_await started.stop(stop_policy(SIGTERM, 20ms));
  CHECK(status == exit_status::killed(SIGKILL));
}

ASYNC_TEST("a stop takes its steps in order and leaves out those that are not needed") {
  std::vector<int> sent;
  const intercept<&system::calls::pidfd_send_signal> recorded([&](auto real, int pidfd, int signal) {
    sent.push_back(signal);
    return real(pidfd, signal);
  });
  auto started = co_await stubborn();
  auto policy = stop_policy(0, 1ms).then(SIGTERM, 1ms).then(SIGUSR1, stop_policy::forever);
  const auto status = co_await started.stop(policy);
  CHECK(status == exit_status::killed(SIGUSR1));
  const std::vector<int> expected = {0, SIGTERM, SIGUSR1};
  CHECK(sent == expected);

  sent.clear();
  auto another = co_await stubborn();
  const auto killed = co_await another.stop(stop_policy::kill());
  CHECK(killed == exit_status::killed(SIGKILL));
  CHECK(sent == std::vector<int>{SIGKILL});
}

ASYNC_TEST("a stop of a child that has ended sends nothing") {
  auto started = co_await spawn(helper("exit-code", "4"));
  co_await until_dead(started);
  const intercept<&system::calls::pidfd_send_signal> counted(
      [](auto real, int pidfd, int signal) { return real(pidfd, signal); });
  const auto status = co_await started.stop();
  CHECK(status == exit_status::exited(4));
  CHECK(counted.calls() == 0);
}

ASYNC_TEST("a stopped process is killed all the same") {
  auto started = co_await spawn(sleeper());
  started.signal(SIGSTOP);
  siginfo_t info;
  REQUIRE(::waitid(P_PID, static_cast<id_t>(started.pid()), &info, WSTOPPED) == 0);
  const auto status = co_await started.stop(stop_policy(SIGTERM, 10ms));
  CHECK(status == exit_status::killed(SIGKILL));
}

PLAIN_TEST("a cancelled stop leaves the child as it is and can be repeated") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    auto started = co_await stubborn();
    auto status = co_await cancelled(started.stop(stop_policy(SIGTERM, 5ms).then(SIGTERM, 5ms)));
    if (!status) {
      const bool killed = !started.running();  // cancelled after the last step
      status = co_await started.stop(stop_policy::kill());
      CHECK((killed || status == exit_status::killed(SIGKILL)));
    }
    CHECK(status == exit_status::killed(SIGKILL));
  });
  CHECK(cancelled_runs > 0);
}

ASYNC_TEST("a child that is let go of is killed and reaped while the loop goes on") {
  pid_t pid = 0;
  {
    const auto started = co_await spawn(sleeper().in(stdio::pipe).out(stdio::pipe));
    pid = started.pid();
  }
  const bool gone = co_await eventually([&] { return !exists(pid); });
  CHECK(gone);
}

PLAIN_TEST("a loop does not end before it has reaped a child that was let go of") {
  asio::io_context context;
  pid_t pid = 0;
  const auto job = [&]() -> asio::awaitable<void> {
    const auto started = co_await spawn(sleeper());
    pid = started.pid();
  };
  asio::co_spawn(context, job(), asio::detached);
  context.run();
  CHECK(pid > 0);
  CHECK_FALSE(exists(pid));
}

PLAIN_TEST("a child that is let go of leaves no zombie if its context dies at once") {
  pid_t pid = 0;
  {
    asio::io_context context;
    const auto job = [&]() -> asio::awaitable<void> {
      auto started = std::make_unique<child>(co_await spawn(sleeper()));
      pid = started->pid();
      started.reset();
      context.stop();
    };
    asio::co_spawn(context, job(), asio::detached);
    context.run();
  }
  CHECK(pid > 0);
  CHECK_FALSE(exists(pid));
}

PLAIN_TEST("children that a dying context takes along leave no zombies") {
  std::vector<pid_t> pids;
  {
    asio::io_context context;
    const auto waiting = [&]() -> asio::awaitable<void> {
      auto started = co_await spawn(sleeper());
      pids.push_back(started.pid());
      co_await started.wait();
    };
    const auto stopping = [&]() -> asio::awaitable<void> {
      auto started = co_await stubborn();
      pids.push_back(started.pid());
      co_await started.stop();
    };
    const auto reading = [&]() -> asio::awaitable<void> {
      auto started = co_await spawn(sleeper().out(stdio::pipe));
      pids.push_back(started.pid());
      co_await started.out().read_all();
    };
    asio::co_spawn(context, waiting(), asio::detached);
    asio::co_spawn(context, stopping(), asio::detached);
    asio::co_spawn(context, reading(), asio::detached);
    while (pids.size() < 3) context.run_one();
    for (int i = 0; i < 3; ++i) context.poll_one();
  }
  for (const auto pid : pids) CHECK_FALSE(exists(pid));
}

ASYNC_TEST("a child that is let go of while a coroutine waits gives that its status") {
  auto started = std::make_unique<child>(co_await spawn(sleeper()));
  std::optional<exit_status> status;
  const auto wait = [&](asio::awaitable<exit_status> end) -> asio::awaitable<void> {
    status = co_await std::move(end);
  };
  asio::co_spawn(co_await asio::this_coro::executor, wait(started->wait()), asio::detached);
  co_await yield(3);
  started.reset();
  const bool ended = co_await eventually([&] { return status.has_value(); });
  CHECK(ended);
  CHECK(status == exit_status::killed(SIGKILL));
}

ASYNC_TEST("a child that has ended is reaped by its destructor") {
  pid_t pid = 0;
  {
    const auto started = co_await spawn(helper("exit-code", "0"));
    pid = started.pid();
    co_await until_dead(started);
  }
  CHECK_FALSE(exists(pid));
}

ASYNC_TEST("a child that is assigned over is killed, and the new one takes its place") {
  auto started = co_await spawn(sleeper());
  const auto first = started.pid();
  auto second = co_await spawn(helper("cat").in(stdio::pipe).out(stdio::pipe));
  const auto pid = second.pid();
  started = std::move(second);
  CHECK_FALSE(second);
  CHECK_FALSE(second.out().is_open());
  CHECK(started.pid() == pid);
  const bool gone = co_await eventually([&] { return !exists(first); });
  CHECK(gone);
  co_await started.in().write("x");
  started.in().close();
  const auto text = co_await started.out().read_all();
  CHECK(text == "x");
  const auto status = co_await started.wait();
  CHECK(status.success());
}

ASYNC_TEST("a detached child lives on") {
  auto started = co_await spawn(helper("cat").in(stdio::pipe).out(stdio::pipe));
  const auto pid = started.pid();
  started.detach();
  CHECK_FALSE(started);
  CHECK(started.pid() == 0);
  co_await started.in().write("still there");
  started.in().close();
  const auto text = co_await started.out().read_all();
  CHECK(text == "still there");
  const bool reaped = co_await eventually([pid] { return !exists(pid); });
  CHECK(reaped);
}

PLAIN_TEST("a loop does not wait for a child that was detached, and reaps it when it runs again") {
  asio::io_context context;
  pid_t pid = 0;
  const auto start = [&pid]() -> asio::awaitable<void> {
    auto started = co_await spawn(sleeper());
    pid = started.pid();
    started.detach();
  };
  asio::co_spawn(context, start(), asio::detached);
  context.run();
  REQUIRE(exists(pid));
  ::kill(pid, SIGKILL);
  context.restart();
  asio::co_spawn(context, eventually([pid] { return !exists(pid); }),
                 [](std::exception_ptr, bool reaped) { CHECK(reaped); });
  context.run();
}

PLAIN_TEST("a detached child outlives its loop") {
  descriptor reading;
  pid_t pid = 0;
  {
    asio::io_context context;
    const auto start = [&]() -> asio::awaitable<void> {
      auto started = co_await spawn(helper("cat").in(stdio::pipe).out(stdio::pipe));
      pid = started.pid();
      co_await started.in().write("still there");
      reading = started.out().release();
      started.detach();
    };
    asio::co_spawn(context, start(), asio::detached);
    context.run();
  }
  char text[16];
  CHECK(::read(reading.get(), text, sizeof text) == 11);
  int status = -1;
  ::waitpid(pid, &status, 0);  // ours to reap now
  CHECK(status == 0);
}

ASYNC_TEST("a stop that is refused says so at once, and the child can still be waited for") {
  auto started = co_await spawn(sleeper());
  {
    const fault<&system::calls::pidfd_send_signal> refused(EPERM);
    const auto code = co_await error_of(started.stop());
    CHECK(code == std::error_code(EPERM, std::system_category()));
  }
  CHECK(started.running());
  const auto status = co_await started.stop();
  CHECK(status == exit_status::killed(SIGTERM));
}

ASYNC_TEST("a time that no timer can count is as good as for ever") {
  for (const auto time : {stop_policy::forever, stop_policy::forever - 1ms}) {
    auto started = co_await spawn(sleeper());
    const auto status = co_await started.stop(stop_policy(SIGTERM, time));
    CHECK(status == exit_status::killed(SIGTERM));
  }
  auto started = co_await spawn(helper("ignore-term", "600000"));
  const auto status = co_await started.stop(stop_policy(SIGTERM, std::chrono::milliseconds::min()));
  CHECK(status.signal().has_value());
}

PLAIN_TEST("a loop does not wait for a child that may not be killed") {
  asio::io_context context;
  pid_t pid = 0;
  const auto drop = [&pid]() -> asio::awaitable<void> {
    const auto started = co_await spawn(sleeper());
    pid = started.pid();
  };
  {
    const fault<&system::calls::pidfd_send_signal> refused(EPERM, 1, every_time);
    asio::co_spawn(context, drop(), asio::detached);
    context.run();
  }
  REQUIRE(exists(pid));
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

PLAIN_TEST("a child that the kernel does not let us wait for does not keep the loop") {
  asio::io_context context;
  pid_t pid = 0;
  const auto drop = [&pid]() -> asio::awaitable<void> {
    const auto started = co_await spawn(sleeper());
    pid = started.pid();
  };
  {
    const fault<&system::calls::waitid> refused(EPERM, 1, every_time);
    asio::co_spawn(context, drop(), asio::detached);
    context.run();
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  CHECK(WTERMSIG(status) == SIGKILL);
}

PLAIN_TEST("a copy of the process neither signals nor reaps the children of the original") {
  asio::io_context context;
  std::optional<child> started;
  const auto start = [&]() -> asio::awaitable<void> { started.emplace(co_await spawn(sleeper())); };
  asio::co_spawn(context, start(), asio::detached);
  context.run();
  context.notify_fork(asio::execution_context::fork_prepare);
  const pid_t copy = ::fork();
  if (copy == 0) {
    context.notify_fork(asio::execution_context::fork_child);
    const bool sent = started->signal(SIGKILL) || started->kill_tree();
    started.reset();
    ::_exit(sent ? 1 : 0);
  }
  context.notify_fork(asio::execution_context::fork_parent);
  int status = -1;
  ::waitpid(copy, &status, 0);
  CHECK(status == 0);
  CHECK(started->running());
  started.reset();
  context.restart();
  context.run();
}

// The number in "left PID", from a child that leaves a process behind.
asio::awaitable<pid_t> left_by(child& gone) {
  const auto line = co_await gone.out().read_line();
  REQUIRE(line.has_value());
  REQUIRE(line->starts_with("left "));
  co_return std::stoi(line->substr(5));
}

ASYNC_TEST("a child is closed when nobody writes to its pipes any more, later than its exit") {
  auto started = co_await spawn(helper("leave", "group", "600000").out(stdio::pipe));
  const process left(co_await left_by(started));
  const auto executor = co_await asio::this_coro::executor;
  std::optional<exit_status> closed;
  const auto wait = [&]() -> asio::awaitable<void> { closed = co_await started.closed(); };
  asio::co_spawn(executor, wait(), asio::detached);
  co_await until_dead(started);
  co_await yield(5);
  CHECK_FALSE(closed.has_value());
  CHECK(exists(started.pid()));  // not reaped before it is closed
  const auto status = co_await started.wait();
  CHECK(status.success());
  co_await yield(5);
  CHECK_FALSE(closed.has_value());
  left.kill();
  const bool ended = co_await eventually([&] { return closed.has_value(); });
  CHECK(ended);
  CHECK(closed == exit_status::exited(0));
}

ASYNC_TEST("what a closed child has written can still be read") {
  auto started = co_await spawn(helper("write-fd", "1", "out", "2", "err").out(stdio::pipe).err(stdio::pipe));
  const auto status = co_await started.closed();
  CHECK(status == exit_status::exited(0));
  int turns = 0;
  asio::post(co_await asio::this_coro::executor, [&] { ++turns; });
  const auto again = co_await started.closed();
  CHECK(again == status);
  CHECK(turns == 0);
  const auto out = co_await started.out().read_all();
  CHECK(out == "out");
  const auto err = co_await started.err().read_all();
  CHECK(err == "err");
}

ASYNC_TEST("a child without pipes is closed when it has ended") {
  auto started = co_await spawn(helper("exit-code", "5"));
  const auto status = co_await started.closed();
  CHECK(status == exit_status::exited(5));
  CHECK_FALSE(exists(started.pid()));
  child none;
  const auto code = co_await error_of(none.closed());
  CHECK(code == errc::no_child);
}

ASYNC_TEST("each of several waits for a closed child gets the status") {
  auto started = co_await spawn(helper("cat").in(stdio::pipe).out(stdio::pipe));
  const auto executor = co_await asio::this_coro::executor;
  std::vector<exit_status> statuses;
  const auto wait = [&]() -> asio::awaitable<void> {
    const auto status = co_await started.closed();
    statuses.push_back(status);
  };
  for (int i = 0; i < 3; ++i) asio::co_spawn(executor, wait(), asio::detached);
  const auto write = co_await error_of(started.in().write("read by nobody"));
  CHECK_FALSE(write);
  started.in().close();
  const bool all = co_await eventually([&] { return statuses.size() == 3; });
  CHECK(all);
  for (const auto& status : statuses) CHECK(status.success());
}

ASYNC_TEST("a pipe that is closed or released here does not keep a child from being closed") {
  for (const bool release : {false, true}) {
    auto started = co_await spawn(helper("leave", "group", "600000").out(stdio::pipe));
    const process left(co_await left_by(started));
    descriptor kept;
    asio::steady_timer soon(co_await asio::this_coro::executor, 20ms);
    soon.async_wait([&](std::error_code) {
      if (release) {
        kept = started.out().release();
      } else {
        started.out().close();
      }
    });
    const auto status = co_await started.closed();
    CHECK(status.success());
    CHECK(left.runs());
    left.kill();
  }
}

ASYNC_TEST("who holds the pipes of an ended child can be killed") {
  auto started = co_await spawn(helper("leave", "group", "600000").out(stdio::pipe));
  const process left(co_await left_by(started));
  co_await until_dead(started);
  const auto code = co_await error_of(with_timeout(started.closed(), 20ms));
  CHECK(code == errc::timed_out);
  CHECK(started.kill_tree());
  const auto status = co_await started.closed();
  CHECK(status.success());
  const bool ended = co_await left.ends();
  CHECK(ended);
}

PLAIN_TEST("a cancelled wait for a closed child changes nothing and can be repeated") {
  const auto cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    auto started = co_await spawn(command("cat").in(stdio::pipe).out(stdio::pipe).err(stdio::pipe));
    co_await started.in().write("text");
    asio::steady_timer soon(co_await asio::this_coro::executor, 5ms);
    soon.async_wait([&](std::error_code error) {
      if (!error) started.in().close();
    });
    auto status = co_await cancelled(started.closed());
    if (!status) {
      started.in().close();
      status = co_await started.closed();
    }
    CHECK(status == exit_status::exited(0));
    const auto text = co_await started.out().read_all();
    CHECK(text == "text");
  });
  CHECK(cancelled_runs > 0);
}

}  // namespace
}  // namespace cohort::test::child_test
