// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/process/spawn.hpp"

#include <cerrno>
#include <climits>
#include <csignal>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../support/fault.hpp"
#include "children.hpp"

namespace cohort::test::spawn_test {
namespace {

// Blocks a signal in this thread, or changes its action, for as long as the object lives.
class blocked_signal {
 public:
  explicit blocked_signal(int signal) {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, signal);
    ::pthread_sigmask(SIG_BLOCK, &set, &before_);
  }
  blocked_signal(const blocked_signal&) = delete;
  ~blocked_signal() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

class signal_action {
 public:
  signal_action(int signal, void (*action)(int)) : signal_(signal), before_(::signal(signal, action)) {}
  signal_action(const signal_action&) = delete;
  ~signal_action() { ::signal(signal_, before_); }

 private:
  int signal_;
  void (*before_)(int);
};

sigset_t current_mask() {
  sigset_t mask;
  ::sigemptyset(&mask);
  ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  return mask;
}

struct pipe_ends {
  descriptor reading, writing;
};

// Without close-on-exec, as code that knows nothing of children makes them.
pipe_ends careless_pipe() {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  return {descriptor(ends[0]), descriptor(ends[1])};
}

std::vector<descriptor> careless_descriptors(int count) {
  std::vector<descriptor> open;
  for (int i = 0; i < count; i += 5) {
    auto [reading, writing] = careless_pipe();
    open.push_back(std::move(reading));
    open.push_back(std::move(writing));
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    open.emplace_back(ends[0]);
    open.emplace_back(ends[1]);
    open.emplace_back(::open("/dev/null", O_RDWR));
  }
  return open;
}

// Linux before 5.11: close_range knows no flag.
int close_range_of_linux_5_10(int (*real)(unsigned, unsigned, int), unsigned first, unsigned last, int flags) {
  if (flags == 0) return real(first, last, flags);
  errno = EINVAL;
  return -1;
}

ASYNC_TEST("a child runs, and its output can be read") {
  const auto output = co_await output_of(helper("echo", "hello", "world"));
  CHECK(output == "hello world\n");
}

ASYNC_TEST("spawn does not suspend") {
  const auto executor = co_await asio::this_coro::executor;
  const auto turns = std::make_shared<int>(0);  // the handler may run after this coroutine has ended
  asio::post(executor, [turns] { ++*turns; });
  auto started = co_await spawn(helper("exit-code", "0"));
  CHECK(*turns == 0);
  CHECK(started.pid() > 0);
  CHECK(started.get_executor() == executor);
  co_await started.wait();
}

ASYNC_TEST("a child of a parent with 500 careless descriptors has exactly those that it was given") {
  const auto open = careless_descriptors(500);
  const auto plain = co_await output_of(helper("fds"));
  CHECK(plain == "0\n1\n2\n");
  const auto given = co_await output_of(
      helper("fds").fd(7, stdio::borrow(open[0].get())).fd(400, stdio::null).fd(open[9].get(), stdio::inherit));
  CHECK(given == "0\n1\n2\n7\n" + std::to_string(open[9].get()) + "\n400\n");
}

ASYNC_TEST("on Linux 5.10 a child has exactly the descriptors that it was given as well" * not_under_valgrind()) {
  const intercept<&system::calls::close_range> old(close_range_of_linux_5_10);
  const auto open = careless_descriptors(100);
  const auto plain = co_await output_of(helper("fds"));
  CHECK(plain == "0\n1\n2\n");
  const auto given = co_await output_of(
      helper("fds").fd(3, stdio::null).fd(7, stdio::borrow(open[0].get())).fd(8, stdio::null).fd(90, stdio::null));
  CHECK(given == "0\n1\n2\n3\n7\n8\n90\n");
  CHECK(old.calls() > 2);
}

ASYNC_TEST("where close_range is refused a child has exactly the descriptors that it was given as well" *
           not_under_valgrind()) {
  const auto open = careless_descriptors(100);
  for (const int error : {EPERM, ENOSYS}) {
    const fault<&system::calls::close_range> refused(error, 1, every_time);
    const auto plain = co_await output_of(helper("fds"));
    CHECK(plain == "0\n1\n2\n");
    const auto given = co_await output_of(
        helper("fds").fd(3, stdio::null).fd(7, stdio::borrow(open[0].get())).fd(90, stdio::null));
    CHECK(given == "0\n1\n2\n3\n7\n90\n");
  }
}

ASYNC_TEST("a script whose interpreter is missing is told from a file that is missing") {
  const directory place;
  const auto script = place / "script";
  {
    std::ofstream file(script);
    file << "#!/no/such/interpreter\n";
  }
  REQUIRE(::chmod(script.c_str(), 0755) == 0);
  const auto there = co_await text_of(spawn(command(script)));
  CHECK(there == "spawn: exec \"" + script + "\" (its interpreter?): No such file or directory");
  const auto missing = co_await text_of(spawn(command(place / "nothing")));
  CHECK(missing == "spawn: exec \"" + (place / "nothing") + "\": No such file or directory");
}

ASYNC_TEST("descriptors can change places") {
  // 1 -> 2 and 2 -> 1, on pipes that stand for the parent's own
  auto one = careless_pipe();
  auto two = careless_pipe();
  const int a = one.writing.get(), b = two.writing.get();
  auto swapped = co_await spawn(helper("write-fd", std::to_string(a), "from a", std::to_string(b), "from b")
                                    .fd(a, stdio::borrow(b))
                                    .fd(b, stdio::borrow(a)));
  const auto status = co_await swapped.wait();
  CHECK(status.success());
  one.writing.reset();
  two.writing.reset();
  read_pipe first(co_await asio::this_coro::executor, std::move(one.reading));
  read_pipe second(co_await asio::this_coro::executor, std::move(two.reading));
  const auto through_one = co_await first.read_all();
  const auto through_two = co_await second.read_all();
  CHECK(through_one == "from b");
  CHECK(through_two == "from a");
}

ASYNC_TEST("standard output and error output can change places") {
  auto swapped = co_await spawn(
      command("/bin/sh", "-c", "\"$0\" write-fd 1 'to 1' 2 'to 2'", helper_path()).out(stdio::pipe).err(stdio::pipe));
  const auto out = co_await swapped.out().read_all();
  const auto err = co_await swapped.err().read_all();
  CHECK(out == "to 1");
  CHECK(err == "to 2");
  co_await swapped.wait();

  // the same with the parent's 1 and 2, in a child whose own child swaps them
  auto ring = co_await spawn(helper("swap-output").out(stdio::pipe).err(stdio::pipe));
  const auto ring_out = co_await ring.out().read_all();
  const auto ring_err = co_await ring.err().read_all();
  CHECK(ring_out == "to 2");
  CHECK(ring_err == "to 1");
  const auto status = co_await ring.wait();
  CHECK(status.success());
}

ASYNC_TEST("descriptors can move on in a ring, and one can go to several places") {
  std::vector<pipe_ends> pipes;
  for (int i = 0; i < 3; ++i) pipes.push_back(careless_pipe());
  auto what = helper("write-fd");
  for (int i = 0; i < 3; ++i) {
    const auto number = pipes[i].writing.get();
    what.arg(std::to_string(number)).arg(std::to_string(i));
    what.fd(number, stdio::borrow(pipes[(i + 1) % 3].writing.get()));
  }
  what.arg("90").arg("x").fd(90, stdio::borrow(pipes[0].writing.get()));
  auto ring = co_await spawn(what);
  const auto status = co_await ring.wait();
  CHECK(status.success());
  std::vector<std::string> received;
  for (auto& [reading, writing] : pipes) {
    writing.reset();
    read_pipe pipe(co_await asio::this_coro::executor, std::move(reading));
    auto text = co_await pipe.read_all();
    received.push_back(std::move(text));
  }
  const std::vector<std::string> expected = {"2x", "0", "1"};
  CHECK(received == expected);
}

ASYNC_TEST("the same descriptor can be output and error output") {
  auto both = careless_pipe();
  const int to = both.writing.get();
  auto started = co_await spawn(helper("write-fd", "1", "a", "2", "b").out(stdio::borrow(to)).err(stdio::borrow(to)));
  co_await started.wait();
  both.writing.reset();
  read_pipe pipe(co_await asio::this_coro::executor, std::move(both.reading));
  const auto text = co_await pipe.read_all();
  CHECK(text == "ab");
}

ASYNC_TEST("a child starts with no signal blocked and none ignored") {
  const blocked_signal term(SIGTERM);
  const blocked_signal realtime(SIGRTMIN + 3);
  const signal_action pipe(SIGPIPE, SIG_IGN), hangup(SIGHUP, SIG_IGN), last(SIGRTMAX, SIG_IGN);
  const signal_action caught(SIGUSR1, [](int) {});
  const auto before = current_mask();
  const auto masks = co_await output_of(helper("status", "SigBlk", "SigIgn"));
  CHECK(masks == "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");

  const auto after = current_mask();
  for (int signal = 1; signal < NSIG; ++signal) CHECK(::sigismember(&before, signal) == ::sigismember(&after, signal));
  CHECK(::sigismember(&after, SIGTERM) == 1);
  CHECK(::sigismember(&after, SIGUSR2) == 0);
  const bool untouched = ::signal(SIGPIPE, SIG_IGN) == SIG_IGN;  // the parent's own
  CHECK(untouched);
}

ASYNC_TEST("a signal that arrives in the child before its program runs calls no handler of the parent") {
  static volatile std::sig_atomic_t called = 0;
  const signal_action caught(SIGUSR1, [](int) { called = 1; });
  // execve is the last step, after the mask has been emptied
  const intercept<&system::calls::execve> signalled(
      [](auto real, const char* path, char* const* argv, char* const* env) {
        ::syscall(SYS_tgkill, ::syscall(SYS_getpid), ::syscall(SYS_gettid), SIGUSR1);
        leave_no_frames();  // it does not return
        return real(path, argv, env);
      });
  auto started = co_await spawn(helper("exit-code", "0"));
  const auto status = co_await started.wait();
  CHECK(status == exit_status::killed(SIGUSR1));
  CHECK(called == 0);
}

ASYNC_TEST("a failing step says its value, and there is no child" * not_under_valgrind()) {
  const auto chdir = co_await text_of(spawn(helper("cwd").cwd("/nope")));
  CHECK(chdir == "spawn: chdir \"/nope\": No such file or directory");
  const auto not_a_program = co_await text_of(spawn(command("/dev/null")));
  CHECK(not_a_program == "spawn: exec \"/dev/null\": Permission denied");
  const auto no_program = co_await text_of(spawn(command("/nope/x")));
  CHECK(no_program == "spawn: exec \"/nope/x\": No such file or directory");
  const auto closed = co_await text_of(spawn(helper("fds").fd(5, stdio::borrow(9'999))));
  CHECK(closed == "spawn: pass 9999 as fd 5: Bad file descriptor");
  const auto kept = co_await text_of(spawn(helper("fds").fd(9'999, stdio::inherit)));
  CHECK(kept == "spawn: pass 9999 as fd 9999: Bad file descriptor");
  const auto too_high = co_await text_of(spawn(helper("fds").fd(INT_MAX, stdio::null)));
  CHECK(too_high.starts_with("spawn: pass "));
  CHECK(too_high.ends_with(" as fd 2147483647: Bad file descriptor"));
  const auto no_file = co_await text_of(spawn(helper("cat").in(stdio::from_file("/nope/x"))));
  CHECK(no_file == "spawn: open \"/nope/x\": No such file or directory");
  const auto too_big = co_await text_of(spawn(helper("echo", std::string(1024 * 1024, 'x'))));
  CHECK(too_big == "spawn: exec \"" + helper_path() + "\": Argument list too long");
  const auto code = co_await error_of(spawn(helper("cwd").cwd("/nope")));
  CHECK(code == std::error_code(ENOENT, std::system_category()));
}

ASYNC_TEST("a clone that fails leaves nothing behind") {
  const auto what = helper("cat").in(stdio::pipe).out(stdio::pipe).err(stdio::null);
  for (const int error : {EAGAIN, ENOMEM, EMFILE}) {
    const fault<&system::calls::clone> none(error);
    const auto text = co_await text_of(spawn(what));
    CHECK(text == "spawn: clone: " + std::system_category().message(error));
  }
  auto started = co_await spawn(what);
  started.in().close();
  const auto status = co_await started.wait();
  CHECK(status.success());
}

ASYNC_TEST("a pipe or a file that cannot be opened leaves nothing behind") {
  const auto what = helper("cat").in(stdio::pipe).out(stdio::pipe).err(stdio::pipe);
  const char* const names[] = {"stdin", "stdout", "stderr"};
  for (unsigned n = 0; n < 3; ++n) {
    const fault<&system::calls::pipe2> full(EMFILE, n + 1);
    const auto text = co_await text_of(spawn(what));
    CHECK(text == std::string("spawn: pipe for ") + names[n] + ": Too many open files");
  }
  const fault<&system::calls::open> full(EMFILE);
  const auto text = co_await text_of(spawn(helper("cat").out(stdio::pipe).err(stdio::null)));
  CHECK(text == "spawn: open \"/dev/null\": Too many open files");
}

// Limits the numbers that this process can give to descriptors, for as long as the object lives.
class descriptor_limit {
 public:
  explicit descriptor_limit(rlim_t numbers) {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    const rlimit limited{numbers, before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &limited) == 0);
  }
  descriptor_limit(const descriptor_limit&) = delete;
  ~descriptor_limit() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_;
};

ASYNC_TEST("with too few descriptors left, however many, a start says so and leaves nothing behind" *
           not_under_valgrind()) {
  if (sanitized) {
    MESSAGE("the sanitizer needs descriptors of its own");
    co_return;
  }
  const asio::posix::stream_descriptor loop(co_await asio::this_coro::executor);  // which has its descriptors now
  rlimit usual;
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &usual) == 0);
  auto what = helper("cat").in(stdio::pipe).out(stdio::pipe).err(stdio::null).user(::geteuid()).groups(::getegid());
  if (::geteuid() != 0) what = helper("cat").in(stdio::pipe).out(stdio::pipe).err(stdio::null);
  what.limit(RLIMIT_NOFILE, usual.rlim_cur, usual.rlim_max);
  int failed = 0;
  for (rlim_t numbers = 0;; ++numbers) {
    child started;
    std::string text;
    {
      const descriptor_limit few(numbers);
      try {
        started = co_await spawn(what);
      } catch (const std::system_error& error) {
        text = error.what();
      }
    }
    if (started) {
      started.in().close();
      const auto status = co_await started.wait();
      CHECK(status.success());
      break;
    }
    ++failed;
    CAPTURE(text);
    CHECK(text.starts_with("spawn: "));
    CHECK(text.ends_with(": Too many open files"));
  }
  CHECK(failed >= 6);
}

ASYNC_TEST("each step of the child can fail, is said by name, and leaves neither child nor descriptor" *
           not_under_valgrind()) {
  const descriptor null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const auto number = null.get();
  auto what = helper("exit-code", "0").cwd("/").in(stdio::pipe).out(stdio::pipe);
  what.fd(number, stdio::inherit);
  {
    const fault<&system::calls::setpgid> failing(EPERM);
    const auto text = co_await text_of(spawn(what));
    CHECK(text == "spawn: process group: Operation not permitted");
  }
  {
    const fault<&system::calls::prctl_pdeathsig> failing(EINVAL);
    const auto text = co_await text_of(spawn(what));
    CHECK(text == "spawn: die with parent: Invalid argument");
  }
  {
    const fault<&system::calls::chdir> failing(EACCES);
    const auto text = co_await text_of(spawn(what));
    CHECK(text == "spawn: chdir \"/\": Permission denied");
  }
  {
    const fault<&system::calls::close_range> failing(ENOMEM);
    const auto text = co_await text_of(spawn(what));
    CHECK(text == "spawn: close_range: Cannot allocate memory");
  }
  {
    const fault<&system::calls::dup2> failing(EMFILE, 2);
    const auto text = co_await text_of(spawn(what));
    CHECK(text.starts_with("spawn: pass "));
    CHECK(text.ends_with(" as stdout: Too many open files"));
  }
  {
    const fault<&system::calls::keep_open> failing(EBADF);
    const auto text = co_await text_of(spawn(what));
    CHECK(text == fmt::format("spawn: pass {} as fd {}: Bad file descriptor", number, number));
  }
  {
    const fault<&system::calls::duplicate> failing(EMFILE);
    auto crossed = helper("exit-code", "0").out(stdio::borrow(2)).err(stdio::borrow(1));
    const auto text = co_await text_of(spawn(crossed));
    CHECK(text == "spawn: pass 2 as stdout: Too many open files");
  }
  {
    const fault<&system::calls::execve> failing(E2BIG);
    const auto text = co_await text_of(spawn(what));
    CHECK(text == "spawn: exec \"" + helper_path() + "\": Argument list too long");
  }
  {
    const intercept<&system::calls::close_range> failing([](auto real, unsigned first, unsigned last, int flags) {
      if (flags == 0 && last == ~0u) return errno = ENOMEM, -1;
      return close_range_of_linux_5_10(real, first, last, flags);
    });
    const auto text = co_await text_of(spawn(what));
    CHECK(text == "spawn: close_range: Cannot allocate memory");
  }
  auto started = co_await spawn(what);
  const auto status = co_await started.wait();
  CHECK(status.success());
}

ASYNC_TEST("a failed child is reaped even if the wait for it is interrupted" * not_under_valgrind()) {
  const fault<&system::calls::waitid> interrupted(EINTR, 1, 3);
  const auto text = co_await text_of(spawn(helper("cwd").cwd("/nope")));
  CHECK(text == "spawn: chdir \"/nope\": No such file or directory");
  CHECK(interrupted.failed() == 3);
}

ASYNC_TEST("a child that cannot be watched is killed and reaped" * not_under_valgrind()) {
  // the loop refuses the pidfd because it is in its epoll set already
  const intercept<&system::calls::clone> known(
      [](auto real, int (*entry)(void*), void* stack, int flags, void* argument, int* pidfd) {
        const int pid = real(entry, stack, flags, argument, pidfd);
        for (int fd = 3; fd < 100; ++fd) {
          epoll_event event = {};
          if (::epoll_ctl(fd, EPOLL_CTL_ADD, *pidfd, &event) == 0) break;
        }
        return pid;
      });
  const auto text = co_await text_of(spawn(helper("sleep", "600000")));
  CHECK(text == "spawn: watch the child: File exists");
}

ASYNC_TEST("two hundred children run at once") {
  std::vector<child> children;
  for (int i = 0; i < 200; ++i) {
    // cat(1), because the helper with sanitizers takes 0.2 s to start
    auto started = co_await spawn(command("cat").in(stdio::pipe).out(stdio::pipe));
    children.push_back(std::move(started));
  }
  for (auto& each : children) CHECK(each.running());
  int echoed = 0, succeeded = 0;
  for (int i = 0; i < 200; ++i) {
    co_await children[i].in().write(std::to_string(i));
    children[i].in().close();
  }
  for (int i = 0; i < 200; ++i) {
    const auto text = co_await children[i].out().read_all();
    echoed += text == std::to_string(i);
    const auto status = co_await children[i].wait();
    succeeded += status.success();
  }
  CHECK(echoed == 200);
  CHECK(succeeded == 200);
}

// Whether a process that is no child of this one ends.
asio::awaitable<bool> ends(pid_t pid) {
  const descriptor pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) co_return errno == ESRCH;
  co_return co_await eventually([&] {
    pollfd ready{pidfd.get(), POLLIN, 0};
    return ::poll(&ready, 1, 0) == 1;
  });
}

ASYNC_TEST("a child dies with its parent, however that dies" * not_under_valgrind()) {
  auto parent = co_await spawn(helper("parent", "1").out(stdio::pipe));
  const auto line = co_await parent.out().read_line();
  REQUIRE(line.has_value());
  const auto grandchild = std::stoi(*line);
  CHECK(::kill(grandchild, 0) == 0);
  parent.signal(SIGKILL);
  const bool ended = co_await ends(grandchild);
  CHECK(ended);
  co_await parent.wait();
}

ASYNC_TEST("a child that is not to die with its parent lives on" * not_under_valgrind()) {
  auto parent = co_await spawn(helper("parent", "0").out(stdio::pipe));
  const auto line = co_await parent.out().read_line();
  REQUIRE(line.has_value());
  const auto grandchild = std::stoi(*line);
  parent.signal(SIGKILL);
  co_await parent.wait();
  CHECK(::kill(grandchild, 0) == 0);
  ::kill(grandchild, SIGKILL);
  const bool ended = co_await ends(grandchild);
  CHECK(ended);
}

ASYNC_TEST("a child whose parent has died before it could ask to die with it does not run its program") {
  auto parent = co_await spawn(helper("orphan").out(stdio::pipe));
  const auto text = co_await parent.out().read_all();
  CHECK(text.empty());
  const auto status = co_await parent.wait();
  CHECK(status == exit_status::killed(SIGKILL));
}

}  // namespace
}  // namespace cohort::test::spawn_test
