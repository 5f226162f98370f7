// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/process/exec.hpp"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../include/cohort/core/run_sync.hpp"
#include "../../include/cohort/core/timeout.hpp"
#include "../support/asio.hpp"
#include "../support/cancellation.hpp"
#include "../support/fault.hpp"
#include "children.hpp"
#include "processes.hpp"

namespace cohort::test::exec_test {
namespace {

// Within this time a shell has come to where it waits, on any machine.
constexpr auto moment = 500ms;

// A script that says its process number, which is that of its group, on descriptor 3, before it goes on.
class group_watch {
 public:
  explicit group_watch(const asio::any_io_executor& executor) {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    reading_ = read_pipe(executor, descriptor(ends[0]));
    writing_.reset(ends[1]);
  }

  command script(const std::string& text) const {
    command shell("/bin/sh", "-c", "echo $$ >&3; exec 3>&-; " + text);
    return shell.fd(3, stdio::borrow(writing_.get()));
  }

  asio::awaitable<pid_t> group() {
    const auto line = co_await reading_.read_line();
    REQUIRE(line.has_value());
    co_return std::stoi(*line);
  }

 private:
  read_pipe reading_;
  descriptor writing_;
};

asio::awaitable<bool> vanishes(pid_t group) {
  co_return co_await eventually([group] { return members_of(group).empty(); });
}

ASYNC_TEST("a script gives its status and what it has written") {
  const auto done = co_await exec("echo one; echo two >&2; exit 3");
  CHECK(done.status == exit_status::exited(3));
  CHECK(done.out == "one\n");
  CHECK(done.err == "two\n");
  CHECK_FALSE(done.truncated);
  CHECK_FALSE(done.timed_out);
  CHECK(done.duration >= done.status.usage().wall_time);
  CHECK(done.status.usage().wall_time > 0us);
}

ASYNC_TEST("a script can be anything, one that looks like an option included") {
  const auto empty = co_await exec("");
  CHECK(empty.status.success());
  const auto unknown = co_await exec("-x");
  CHECK(unknown.status == exit_status::exited(127));
  const auto killed = co_await exec("kill -TERM $$");
  CHECK(killed.status == exit_status::killed(SIGTERM));
}

ASYNC_TEST("a program runs without a shell, with all that its command sets") {
  auto what = command("sh", "-c", "pwd; echo $NAME; echo \"$1\"", "sh", "a  'b' $(c)");
  const auto done = co_await exec_file(what.cwd("/").env("NAME", "value"));
  CHECK(done.out == "/\nvalue\na  'b' $(c)\n");
  CHECK(done.status.success());
}

ASYNC_TEST("a program that cannot be started is an exception") {
  const auto missing = co_await text_of(exec_file(command("/no/such/program")));
  CHECK(missing == "spawn: exec \"/no/such/program\": No such file or directory");
  const auto directory = co_await text_of(exec_file(command("true").cwd("/nope")));
  CHECK(directory == "spawn: chdir \"/nope\": No such file or directory");
}

ASYNC_TEST("there is nothing to read unless an input is given") {
  const auto none = co_await exec("cat");
  CHECK(none.out.empty());
  exec_options options;
  options.input = "a long enough text, which needs memory";
  const auto given = co_await exec("cat", options);
  CHECK(given.out == "a long enough text, which needs memory");
  options.input = "";
  const auto empty = co_await exec("cat", options);
  CHECK(empty.out.empty());
  const auto opened = co_await exec_file(command("cat").in(stdio::pipe));
  CHECK(opened.out.empty());
}

ASYNC_TEST("input is written while output is read") {
  exec_options options;
  options.input = std::string(8'000'000, 'x');
  options.max_output = 8'000'000;
  const auto copied = co_await exec_file(command("cat"), options);
  CHECK(copied.out.size() == 8'000'000);
  CHECK(copied.status.success());
}

ASYNC_TEST("both outputs are read at once") {
  exec_options options;
  options.max_output = 4'000'000;
  const auto done = co_await exec("head -c 4000000 /dev/zero >&2; head -c 4000000 /dev/zero", options);
  CHECK(done.out.size() == 4'000'000);
  CHECK(done.err.size() == 4'000'000);
}

ASYNC_TEST("a program need not read its input") {
  exec_options options;
  options.input = std::string(1'000'000, 'x');
  const auto ended = co_await exec("exit 4", options);
  CHECK(ended.status == exit_status::exited(4));
  const auto closed = co_await exec("exec <&-; echo on", options);
  CHECK(closed.out == "on\n");
  const auto some = co_await exec("head -c 3", options);
  CHECK(some.out == "xxx");
  CHECK(some.status.success());
}

ASYNC_TEST("input that nobody reads is not waited for when the program has ended") {
  exec_options options;
  options.input = std::string(1'000'000, 'x');
  options.linger = stop_policy::forever;
  const auto done = co_await exec("sleep 600 <&0 >/dev/null 2>&1 & echo $!", options);
  CHECK(done.status.success());
  const process left(std::stoi(done.out));
  CHECK(left.runs());
  left.kill();
}

ASYNC_TEST("errors can be merged into the output, in the order in which they were written") {
  std::string expected;
  for (int i = 1; i <= 1'000; ++i) expected += std::to_string(i) + '\n';
  exec_options options;
  options.merge_errors = true;
  const auto done = co_await exec_file(helper("alternate", "1000"), options);
  CHECK(done.out == expected);
  CHECK(done.err.empty());
  CHECK_FALSE(done.truncated);
}

ASYNC_TEST("a stream that the command sets stays as it is set") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  read_pipe reading(co_await asio::this_coro::executor, descriptor(ends[0]));
  {
    command what("sh", "-c", "echo out; echo err >&2");
    const auto done = co_await exec_file(what.out(descriptor(ends[1])));
    CHECK(done.out.empty());
    CHECK(done.err == "err\n");
    CHECK_FALSE(done.truncated);
  }
  const auto text = co_await reading.read_all();
  CHECK(text == "out\n");
}

ASYNC_TEST("a stream that both the command and the options set is an error") {
  exec_options input;
  input.input = "x";
  const auto in = co_await text_of(exec_file(command("cat").in(stdio::null), input));
  CHECK(in == "exec: input of a command that has set its own: invalid option");
  exec_options merged;
  merged.merge_errors = true;
  const auto out = co_await text_of(exec_file(command("cat").out(stdio::null), merged));
  CHECK(out == "exec: output of a command that has set its own: invalid option");
  const auto err = co_await text_of(exec_file(command("cat").err(stdio::null), merged));
  CHECK(err == "exec: error output of a command that has set its own: invalid option");
}

ASYNC_TEST("output up to the limit is a value") {
  exec_options options;
  options.max_output = 100'000;
  const auto exact = co_await exec_file(helper("fill", "100000"), options);
  CHECK(exact.out.size() == 100'000);
  options.max_output = 0;
  const auto none = co_await exec("true", options);
  CHECK(none.out.empty());
  CHECK_FALSE(none.truncated);
}

ASYNC_TEST("output over the limit kills the program, and the exception has what was read") {
  for (const bool errors : {false, true}) {
    group_watch watch(co_await asio::this_coro::executor);
    exec_options options;
    options.max_output = 100'000;
    std::optional<output> read;
    std::string text;
    try {
      co_await exec_file(watch.script(errors ? "echo out; yes >&2 | cat" : "yes | cat"), options);
    } catch (const truncated_output& error) {
      CHECK(error.code() == errc::output_too_large);
      text = error.what();
      read = error.output();
    }
    CHECK(text == "exec: more than 100000 bytes from \"/bin/sh\": output too large");
    REQUIRE(read.has_value());
    const auto& full = errors ? read->err : read->out;
    CHECK(full.size() == 100'000);
    CHECK(full.starts_with("y\ny\n"));
    if (errors) CHECK(read->out == "out\n");
    CHECK(read->truncated);
    CHECK_FALSE(read->timed_out);
    CHECK(read->status == exit_status::killed(SIGKILL));
    const bool gone = co_await vanishes(co_await watch.group());
    CHECK(gone);
  }
}

ASYNC_TEST("a timeout is a value: the program is stopped and what it has written is there") {
  exec_options options;
  options.timeout = moment;
  const auto done = co_await exec("echo before; exec sleep 600", options);
  CHECK(done.timed_out);
  CHECK(done.status == exit_status::killed(SIGTERM));
  CHECK(done.out == "before\n");
  CHECK_FALSE(done.truncated);
  CHECK(done.duration >= moment);

  options.timeout = 1h;
  const auto in_time = co_await exec("echo in time", options);
  CHECK_FALSE(in_time.timed_out);
  CHECK(in_time.out == "in time\n");
}

ASYNC_TEST("a timeout stops the whole of a pipeline") {
  group_watch watch(co_await asio::this_coro::executor);
  exec_options options;
  options.timeout = moment;
  const auto done = co_await exec_file(watch.script("sleep 600 | sleep 600 | sleep 600"), options);
  CHECK(done.timed_out);
  CHECK_FALSE(done.truncated);
  const bool gone = co_await vanishes(co_await watch.group());
  CHECK(gone);
}

ASYNC_TEST("a program that does not stop when it is asked to is killed, and its last words are kept") {
  exec_options options;
  options.timeout = moment;
  options.stop = stop_policy(SIGTERM, moment);
  const auto done = co_await exec("trap 'echo asked' TERM; echo ready; while :; do sleep 600; done", options);
  CHECK(done.timed_out);
  CHECK(done.status == exit_status::killed(SIGKILL));
  CHECK(done.out == "ready\nasked\n");

  options.timeout = 20ms;
  options.stop = stop_policy::kill();
  const auto at_once = co_await exec("exec sleep 600", options);
  CHECK(at_once.status == exit_status::killed(SIGKILL));
  CHECK(at_once.timed_out);

  options.stop = stop_policy(0, 1ms).then(SIGINT, stop_policy::forever);
  const auto asked = co_await exec("exec sleep 600", options);
  CHECK(asked.status == exit_status::killed(SIGINT));
}

ASYNC_TEST("a process left in the background that holds the output does not hold exec for ever") {
  exec_options options;
  options.linger = 20ms;
  const auto done = co_await exec("sleep 600 & echo $!", options);
  CHECK(done.status.success());
  CHECK(done.truncated);
  CHECK_FALSE(done.timed_out);
  const process left(std::stoi(done.out));
  CHECK(left.runs());
  left.kill();
}

ASYNC_TEST("output that comes after the program's end is read while the linger time lasts") {
  exec_options options;
  options.linger = stop_policy::forever;
  const auto done = co_await exec("(sleep 0.05; echo late) & echo early", options);
  CHECK(done.out == "early\nlate\n");
  CHECK_FALSE(done.truncated);
}

ASYNC_TEST("a process left in the background that does not hold the output is not waited for") {
  exec_options options;
  options.linger = stop_policy::forever;
  const auto done = co_await exec("sleep 600 >/dev/null 2>&1 & echo $!", options);
  CHECK_FALSE(done.truncated);
  const process left(std::stoi(done.out));
  CHECK(left.runs());
  left.kill();
}

ASYNC_TEST("a timeout stops what a program has left in the background") {
  exec_options options;
  options.linger = stop_policy::forever;
  options.timeout = moment;
  const auto done = co_await exec("sleep 600 & echo $!", options);
  CHECK(done.timed_out);
  CHECK(done.status == exit_status::exited(0));
  const process left(std::stoi(done.out));
  const bool gone = co_await left.ends();
  CHECK(gone);
  CHECK_FALSE(done.truncated);
}

ASYNC_TEST("a process that got away and holds the output does not hold up a timeout") {
  exec_options options;
  options.timeout = moment;
  options.stop = stop_policy(SIGTERM, 20ms);
  options.linger = stop_policy::forever;
  const auto done = co_await exec("(setsid sh -c 'echo $$; exec sleep 600' &)", options);
  CHECK(done.timed_out);
  CHECK(done.truncated);
  REQUIRE_FALSE(done.out.empty());
  const process left(std::stoi(done.out));
  CHECK(left.runs());
  left.kill();
}

PLAIN_TEST("a cancelled exec leaves nothing, whenever it is cancelled") {
  const std::string input(300'000, 'x');
  const auto cancelled_runs = cancel_at_every_turn([&](cancellation& cancelled) -> asio::awaitable<void> {
    exec_options options;
    options.input = input;
    command both("sh", "-c", "tee /dev/stderr | cat");
    const auto done = co_await cancelled(exec_file(both, options));
    if (!done) co_return;
    CHECK(done->out == input);
    CHECK(done->err == input);
    CHECK(done->status.success());
  });
  CHECK(cancelled_runs > 10);
}

ASYNC_TEST("a cancelled exec kills the whole of a pipeline") {
  const auto executor = co_await asio::this_coro::executor;
  group_watch watch(executor);
  asio::cancellation_signal cancel;
  std::optional<std::error_code> ended;
  const auto run = [&]() -> asio::awaitable<void> {
    ended = co_await error_of(exec_file(watch.script("sleep 600 | sleep 600 | sleep 600")));
  };
  asio::co_spawn(executor, run(), asio::bind_cancellation_slot(cancel.slot(), asio::detached));
  const auto group = co_await watch.group();
  const bool started = co_await eventually([&] { return members_of(group).size() == 4; });
  CHECK(started);
  cancel.emit(asio::cancellation_type::terminal);
  const bool aborted = co_await eventually([&] { return ended.has_value(); });
  CHECK(aborted);
  CHECK(ended == operation_aborted());
  const bool gone = co_await vanishes(group);
  CHECK(gone);
}

ASYNC_TEST("an exec that is cancelled without a free descriptor kills its process group all the same") {
  const auto executor = co_await asio::this_coro::executor;
  group_watch watch(executor);
  asio::cancellation_signal cancel;
  std::optional<std::error_code> ended;
  const auto run = [&]() -> asio::awaitable<void> {
    ended = co_await error_of(exec_file(watch.script("sleep 600 | sleep 600")));
  };
  asio::co_spawn(executor, run(), asio::bind_cancellation_slot(cancel.slot(), asio::detached));
  const auto group = co_await watch.group();
  {
    const fault<&system::calls::open> full(EMFILE, 1, every_time);
    cancel.emit(asio::cancellation_type::terminal);
    const bool refused = co_await eventually([&] { return full.failed() > 0; });
    CHECK(refused);
  }
  const bool gone = co_await vanishes(group);
  CHECK(gone);
  const bool aborted = co_await eventually([&] { return ended.has_value(); });
  CHECK(aborted);
}

ASYNC_TEST("a time limit around exec is a cancellation") {
  group_watch watch(co_await asio::this_coro::executor);
  const auto code = co_await error_of(with_timeout(exec_file(watch.script("sleep 600 | cat")), moment));
  CHECK(code == errc::timed_out);
  const bool gone = co_await vanishes(co_await watch.group());
  CHECK(gone);
}

PLAIN_TEST("an exec that a dying context takes along leaves nothing") {
  pid_t group = 0;
  {
    asio::io_context context;
    group_watch watch(context.get_executor());
    exec_options options;
    options.input = std::string(1'000'000, 'x');
    asio::co_spawn(context, exec_file(watch.script("sleep 600 | sleep 600"), options), asio::detached);
    const auto find = [&]() -> asio::awaitable<void> { group = co_await watch.group(); };
    asio::co_spawn(context, find(), asio::detached);
    while (group == 0) context.run_one();
  }
  const auto gone = run_sync(vanishes(group));
  CHECK(gone);
}

ASYNC_TEST("an input that cannot be written is an exception, and the program is killed") {
  exec_options options;
  options.input = "x";
  const fault<&system::calls::write> failing(EIO);
  const auto text = co_await text_of(exec("sleep 600 | sleep 600", options));
  CHECK(text == "pipe: write: Input/output error");
}

ASYNC_TEST("without descriptors to find the whole of a program its process group is stopped") {
  group_watch watch(co_await asio::this_coro::executor);
  exec_options options;
  options.timeout = moment;
  output done;
  {
    const fault<&system::calls::pidfd_open> full(EMFILE, 1, every_time);
    done = co_await exec_file(watch.script("sleep 600 | sleep 600"), options);
  }
  CHECK(done.timed_out);
  CHECK(done.status == exit_status::killed(SIGTERM));
  const bool gone = co_await vanishes(co_await watch.group());
  CHECK(gone);
}

ASYNC_TEST("without /proc the program and its group get the signals of a timeout") {
  exec_options options;
  options.timeout = 0ms;
  const intercept<&system::calls::open> no_proc([](auto real, const char* path, int flags, mode_t mode) {
    return std::string_view(path).starts_with("/proc") ? (errno = ENOENT, -1) : real(path, flags, mode);
  });
  const auto done = co_await exec_file(command("sleep", "600"), options);
  CHECK(done.timed_out);
  CHECK(done.status == exit_status::killed(SIGTERM));
}

// As a program is that has become another user's.
class immune {
  fault<&system::calls::pidfd_send_signal> alone_{EPERM, 1, every_time};
  fault<&system::calls::kill> group_{EPERM, 1, every_time};
};

bool is_unknown(const exit_status& status) { return !status.code() && !status.signal(); }

bool is_child(pid_t pid) {
  siginfo_t info;
  return ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

ASYNC_TEST("a program that refuses signals is left alone when its time is over, and reaped when it ends") {
  group_watch watch(co_await asio::this_coro::executor);
  exec_options options;
  options.timeout = 1ms;
  std::optional<process> left;
  {
    const immune other_user;
    const auto done = co_await exec_file(watch.script("exec sleep 600"), options);
    CHECK(done.timed_out);
    CHECK(is_unknown(done.status));
    left.emplace(co_await watch.group());
  }
  CHECK(left->runs());
  left->kill();
  const bool reaped = co_await eventually([&] { return !is_child(left->pid()); });
  CHECK(reaped);
}

ASYNC_TEST("a program that refuses signals and writes too much finds its pipe closed") {
  group_watch watch(co_await asio::this_coro::executor);
  exec_options options;
  options.max_output = 10;
  bool too_large = false;
  {
    const immune other_user;
    try {
      co_await exec_file(watch.script("exec yes"), options);
    } catch (const truncated_output& error) {
      too_large = true;
      CHECK(error.output().out == "y\ny\ny\ny\ny\n");
    }
  }
  CHECK(too_large);
  const auto pid = co_await watch.group();
  const bool reaped = co_await eventually([pid] { return !is_child(pid); });
  CHECK(reaped);
}

ASYNC_TEST("where SIGCHLD is ignored the output is there and the status unknown, and a wait names the cause") {
  ::signal(SIGCHLD, SIG_IGN);
  const auto done = co_await exec("echo kept; exit 3");
  auto started = co_await spawn(command("true"));
  const auto text = co_await text_of(started.wait());
  ::signal(SIGCHLD, SIG_DFL);
  CHECK(done.out == "kept\n");
  CHECK(is_unknown(done.status));
  CHECK(text.find("ignores SIGCHLD") != text.npos);
}

asio::awaitable<void> echo_often(int times, std::atomic<int>& right) {
  for (int i = 0; i < times; ++i) {
    const auto done = co_await exec_file(command("echo", std::to_string(i)));
    right += done.status.success() && done.out == std::to_string(i) + '\n';
  }
}

PLAIN_TEST("programs run on several threads, with strands and without") {
  std::atomic<int> right{0};
  asio::thread_pool threads(4);
  for (int i = 0; i < 4; ++i) asio::co_spawn(threads, echo_often(8, right), asio::detached);
  for (int i = 0; i < 2; ++i) asio::co_spawn(asio::make_strand(threads), echo_often(8, right), asio::detached);
  threads.join();
  CHECK(right == 48);
}

asio::awaitable<void> time_out(std::atomic<int>& right) {
  for (int i = 0; i < 10; ++i) {
    const auto code = co_await error_of(with_timeout(exec("sleep 600"), std::chrono::milliseconds(i % 3)));
    right += code == errc::timed_out;
  }
}

PLAIN_TEST("programs are cancelled on several threads") {
  std::atomic<int> right{0};
  asio::thread_pool threads(4);
  for (int i = 0; i < 4; ++i) asio::co_spawn(threads, time_out(right), asio::detached);
  threads.join();
  CHECK(right == 40);
}

PLAIN_TEST("a copy of the process that dies with its loop leaves the programs of the original alone") {
  auto context = std::make_unique<asio::io_context>();
  std::optional<output> done;
  exec_options options;
  options.input = "x";
  int gate[2];
  REQUIRE(::pipe2(gate, O_CLOEXEC) == 0);
  descriptor opened(gate[0]), closed(gate[1]);
  auto what = command::shell("read line <&3; echo it lives").fd(3, stdio::borrow(opened.get()));
  asio::co_spawn(*context, exec_file(std::move(what)), [&](std::exception_ptr, output seen) { done = std::move(seen); });
  context->poll();
  context->notify_fork(asio::execution_context::fork_prepare);
  const pid_t copy = ::fork();
  if (copy == 0) {
    context->notify_fork(asio::execution_context::fork_child);
    context.reset();
    ::_exit(0);
  }
  context->notify_fork(asio::execution_context::fork_parent);
  ::waitpid(copy, nullptr, 0);
  closed.reset();
  context->run();
  REQUIRE(done);
  CHECK(done->out == "it lives\n");
}

ASYNC_TEST("a pipe for both outputs that cannot be made is an exception") {
  exec_options options;
  options.merge_errors = true;
  const fault<&system::calls::pipe2> full(EMFILE);
  const auto text = co_await text_of(exec("true", options));
  CHECK(text == "exec: pipe for output: Too many open files");
}

ASYNC_TEST("the output of a program whose status somebody else has taken is there") {
  const intercept<&system::calls::waitid> stolen([](auto real, int pidfd, siginfo_t* info, int options, rusage* usage) {
    if (real(pidfd, info, options | WNOWAIT, usage) == -1 || info->si_pid == 0) return 0;
    real(pidfd, info, WEXITED, usage);
    return errno = ECHILD, -1;
  });
  const auto done = co_await exec("echo here");
  CHECK(done.out == "here\n");
  CHECK(is_unknown(done.status));
}

ASYNC_TEST("many run at once") {
  const auto executor = co_await asio::this_coro::executor;
  int succeeded = 0, ended = 0;
  const auto run = [&](int number) -> asio::awaitable<void> {
    const auto text = std::to_string(number);
    exec_options options;
    options.input = text;
    const auto done = co_await exec_file(command("cat"), options);
    succeeded += done.out == text && done.status.success();
    ++ended;
  };
  for (int i = 0; i < 50; ++i) asio::co_spawn(executor, run(i), asio::detached);
  const bool all = co_await eventually([&] { return ended == 50; });
  CHECK(all);
  CHECK(succeeded == 50);
}

PLAIN_TEST("a program without a loop runs another one") {
  const auto done = run_sync(exec("echo here"));
  CHECK(done.out == "here\n");
  exec_options options;
  options.input = "there";
  CHECK(run_sync(exec_file(command("cat"), options)).out == "there");
  CHECK_THROWS_AS(run_sync(exec_file(command("/no/such/program"))), std::system_error);
}

}  // namespace
}  // namespace cohort::test::exec_test
