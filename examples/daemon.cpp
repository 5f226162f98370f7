// SPDX-License-Identifier: BSL-1.0
// A service in the background, which says what it does in its title (see ps) and in its log.
//
//   daemon start     returns when the service is ready, or says why it is not going to be
//   daemon status    says whether it runs; exits with 3 if it does not
//   daemon stop      returns when it has ended
//   daemon run       the same service in the foreground
//
// A second argument is the directory of daemon.pid and daemon.log; the current one, if there is none.

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cohort/core/task_group.hpp>
#include <cohort/process/daemonize.hpp>
#include <cohort/process/this_process.hpp>

using asio::awaitable;
using asio::use_awaitable;
using namespace std::chrono_literals;

namespace this_process = cohort::this_process;

awaitable<void> work() {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  for (unsigned round = 1;; ++round) {
    this_process::set_title(fmt::format("daemon: round {}, up for {} s", round, this_process::uptime() / 1s));
    fmt::print("round {}\n", round);
    std::fflush(stdout);
    timer.expires_after(1s);
    co_await timer.async_wait(use_awaitable);
  }
}

awaitable<void> serve(this_process::daemon& self) {
  const auto executor = co_await asio::this_coro::executor;
  asio::signal_set signals(executor, SIGINT, SIGTERM);
  cohort::task_group tasks(executor);
  tasks.start(work(), [](std::exception_ptr) {});
  self.ready();  // from here on `start` has succeeded
  const int signal = co_await signals.async_wait(use_awaitable);
  tasks.cancel();
  co_await tasks.wait_empty();
  fmt::print("stopped by signal {}\n", signal);
}

int run(this_process::daemon& self) {
  asio::io_context context(1);
  asio::co_spawn(context, serve(self), [](std::exception_ptr failure) {
    if (failure) std::rethrow_exception(failure);
  });
  context.run();
  return 0;
}

int start(const std::string& pid_file, const std::string& log) {
  this_process::daemon_options options;
  options.pid_file = pid_file;
  options.out = options.err = log;
  options.ready_within = 10s;
  this_process::daemon self = this_process::daemonize(options);  // only the daemon gets past here
  try {
    return run(self);
  } catch (const std::exception& error) {
    self.failed(error.what());  // `start` says it, if it is still there
    throw;                      // and the log
  }
}

int status(const std::string& pid_file) {
  const auto pid = cohort::pid_file::owner(pid_file);
  if (!pid) {
    fmt::print("not running\n");
    return 3;
  }
  fmt::print("running, pid {}\n", *pid);
  return 0;
}

int stop(const std::string& pid_file) {
  const auto pid = cohort::pid_file::owner(pid_file);
  const cohort::descriptor process(pid ? static_cast<int>(::syscall(SYS_pidfd_open, *pid, 0)) : -1);
  // Asked again: if it has the file still, then the number was its own when the pidfd was opened.
  if (!process || cohort::pid_file::owner(pid_file) != pid) {
    fmt::print("not running\n");
    return 0;
  }
  if (::syscall(SYS_pidfd_send_signal, process.get(), SIGTERM, nullptr, 0) == -1) cohort::throw_error("stop", errno);
  pollfd ended{process.get(), POLLIN, 0};
  if (::poll(&ended, 1, 10'000) != 1) cohort::throw_error(fmt::format("stop: pid {}", *pid), cohort::errc::timed_out);
  return 0;
}

int main(int argc, char* argv[]) {
  const std::string_view verb = argc > 1 ? argv[1] : "";
  const std::string directory = argc > 2 ? argv[2] : ".";
  const std::string pid_file = directory + "/daemon.pid";
  try {
    if (verb == "start") return start(pid_file, directory + "/daemon.log");
    if (verb == "status") return status(pid_file);
    if (verb == "stop") return stop(pid_file);
    if (verb == "run") {
      const cohort::pid_file only_one(pid_file);
      this_process::daemon in_the_foreground;
      return run(in_the_foreground);
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "daemon: {}\n", error.what());
    return 1;
  }
  fmt::print(stderr, "usage: daemon start|status|stop|run [DIRECTORY]\n");
  return 2;
}
