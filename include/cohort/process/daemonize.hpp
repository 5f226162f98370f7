// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "../core/asio.hpp"
#include "../core/descriptor.hpp"
#include "../core/error.hpp"
#include "../core/system.hpp"
#include "../core/timeout.hpp"
#include "command.hpp"
#include "detail/own_program.hpp"
#include "exit_status.hpp"
#include "pid_file.hpp"
#include "pipe.hpp"
#include "spawn.hpp"
#include "stop_policy.hpp"

namespace cohort::this_process {

/// How a daemon is to run. Relative paths start at the directory of the process that calls daemonize first.
///
/// Distinct objects: safe. Shared objects: unsafe.
class daemon_options {
 public:
  /// The pid file, see cohort::pid_file; none, if not set.
  template <detail::string_like T>
  daemon_options& pid_file(const T& path) {
    pid_file_ = detail::to_string(path);
    return *this;
  }

  /// The file that standard output is added to, made if there is none (0666 less the umask); /dev/null, if not set.
  template <detail::string_like T>
  daemon_options& out(const T& path) {
    out_ = detail::to_string(path);
    return *this;
  }

  /// The same for the error output. May be the same file.
  template <detail::string_like T>
  daemon_options& err(const T& path) {
    err_ = detail::to_string(path);
    return *this;
  }

  /// The directory that the daemon runs in; "/", if not set, so that it keeps no file system from being unmounted.
  template <detail::string_like T>
  daemon_options& cwd(const T& directory) {
    cwd_ = detail::to_string(directory);
    return *this;
  }

  /// The file mode creation mask, also for the log files; inherited, if not set.
  daemon_options& umask(mode_t mask) {
    umask_ = mask;
    return *this;
  }

  /// How long the daemon may take until it is ready; 30 s, if not set.
  daemon_options& ready_within(std::chrono::milliseconds limit) {
    limit_ = limit;
    return *this;
  }

 private:
  friend class daemon;

  std::optional<std::string> pid_file_;
  std::string out_ = "/dev/null";
  std::string err_ = "/dev/null";
  std::string cwd_ = "/";
  std::optional<mode_t> umask_;
  std::chrono::milliseconds limit_ = std::chrono::seconds(30);
};

/// This process as a daemon, and the one that waits in the foreground until it is ready.
///
/// Default-constructed it is a program in the foreground, and ready() and failed() do nothing. Destroying it removes
/// the pid file; if neither was called before, the foreground process waits for this process to end and says how.
///
/// Distinct objects: safe. Shared objects: unsafe.
class daemon {
 public:
  daemon() = default;

  /// Lets the process in the foreground exit with 0. Neither waits nor throws, and nothing happens if that process is
  /// gone, or was told before.
  void ready() noexcept { tell({}); }

  /// Has the process in the foreground print `text`, 4095 bytes at most, and exit with 1; it waits until this process
  /// has ended, for 10 s at most. Otherwise as ready(). The caller ends this process.
  void failed(std::string_view text) noexcept {
    text = text.substr(0, text.find('\0'));
    tell(text.empty() ? "daemonize: failed" : text);
  }

 private:
  friend daemon daemonize(const daemon_options& options);

  static constexpr const char* variable = "COHORT_DAEMON_FD";
  static constexpr int number = 3;

  static daemon begin(const daemon_options& options) {
    daemon self;
    self.starter_ = take_starter();
    try {
      self.set_up(options);
    } catch (const std::exception& error) {
      self.failed(error.what());
      // or the terminal would have it twice, when the caller says what this throws
      const descriptor nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
      for (const int output : {STDOUT_FILENO, STDERR_FILENO}) ::dup2(nowhere.get(), output);
      throw;
    }
    return self;
  }

  static descriptor take_starter() {
    const std::string value = std::getenv(variable);
    struct stat file = {};
    if (value != std::to_string(number) || ::fstat(number, &file) == -1 || !S_ISFIFO(file.st_mode)) {
      throw_error(fmt::format("daemonize: {}={}", variable, value), errc::invalid_option);
    }
    ::unsetenv(variable);
    ::fcntl(number, F_SETFD, FD_CLOEXEC);
    // Started with closed outputs, the pid file would be opened under their numbers, and lost when they are connected.
    for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
      if (::fcntl(standard, F_GETFD) == -1) (void)!::open("/dev/null", O_RDWR);
    }
    return descriptor(number);
  }

  // The pid file comes before everything that a daemon which runs already would notice. Outputs come last: what the
  // runtime has to say before (a sanitizer, the C++ library) is seen in the foreground.
  void set_up(const daemon_options& options) {
    if (::setsid() == -1) throw_error("daemonize: setsid", errno);
    if (options.umask_) ::umask(*options.umask_);
    if (options.pid_file_) pid_file_ = pid_file(*options.pid_file_, "daemonize: pid file");
    const auto out = open(options.out_);
    const auto err = open(options.err_);
    if (system::call.chdir(options.cwd_.c_str()) == -1) {
      throw_error(fmt::format("daemonize: chdir \"{}\"", options.cwd_), errno);
    }
    connect(out, STDOUT_FILENO);
    connect(err, STDERR_FILENO);
  }

  static descriptor open(const std::string& path) {
    const int flags = O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY | O_CLOEXEC;
    descriptor file(system::retry(system::call.open, path.c_str(), flags, mode_t(0666)));
    if (!file) throw_error(fmt::format("daemonize: open \"{}\"", path), errno);
    return file;
  }

  static void connect(const descriptor& file, int target) {
    if (system::retry(system::call.dup2, file.get(), target) == -1) throw_error("daemonize: dup2", errno);
  }

  // Nothing for ready, or what has failed, and a NUL. In one piece, because it is no more than PIPE_BUF.
  void tell(std::string_view text) noexcept {
    if (!starter_) return;
    char message[PIPE_BUF];
    const auto size = text.copy(message, sizeof message - 1);
    message[size] = '\0';
    detail::write_quietly(starter_.get(), asio::buffer(message, size + 1));
    starter_.reset();
  }

  // In the foreground, from here on: starts the daemon and returns what to exit with.
  static asio::awaitable<int> start(const daemon_options& options) {
    int ends[2];
    if (system::call.pipe2(ends, O_CLOEXEC) == -1) throw_error("daemonize: pipe", errno);
    descriptor reading(ends[0]), writing(ends[1]);
    const auto executor = co_await asio::this_coro::executor;
    read_pipe news(executor, std::move(reading));

    auto again = detail::own_command(detail::own_arguments());
    again.in(stdio::null).fd(number, stdio::borrow(writing.get())).env(variable, std::to_string(number));
    // Neither a group of its own, whose leader could not call setsid, nor an end together with this process.
    again.process_group(process_group::inherit).die_with_parent(false);
    child started = co_await spawn(std::move(again));
    writing.reset();

    std::string failure;
    stop_policy ending(0, std::chrono::seconds(10));  // it is about to end by itself
    try {
      failure = co_await with_timeout(outcome(started, news), options.limit_);
    } catch (const std::system_error& error) {
      if (error.code() != errc::timed_out) throw;
      failure = fmt::format("daemonize: the daemon was not ready within {} ms", options.limit_.count());
      ending = stop_policy();
    }
    if (failure.empty()) {
      started.detach();
      co_return EXIT_SUCCESS;
    }
    std::fprintf(stderr, "%s\n", failure.c_str());
    co_await started.stop(ending);
    co_return EXIT_FAILURE;
  }

  // Empty if the daemon is ready, or why it will not be.
  static asio::awaitable<std::string> outcome(child& started, read_pipe& news) {
    std::string said;
    auto end = said.npos;
    while (end == said.npos) {
      char piece[PIPE_BUF];
      const auto size = co_await news.read_some(asio::buffer(piece));
      if (size == 0) {
        const auto status = co_await started.wait();
        co_return fmt::format("daemonize: the daemon ended before it was ready: {}", status);
      }
      said.append(piece, size);
      end = said.find('\0');
    }
    said.resize(end);
    co_return said;
  }

  static inline bool running_ = false;

  pid_file pid_file_;
  descriptor starter_;
};

/// Turns this program into a daemon: a process in the background, in a session of its own, that outlives the terminal.
///
///     int main() {
///       cohort::this_process::daemon self;
///       try {
///         self = cohort::this_process::daemonize(options);   // only the daemon gets past here
///         … open what it needs …
///         self.ready();                                      // now the command that was typed has succeeded
///         … serve …
///       } catch (const std::exception& error) {
///         self.failed(error.what());                         // the command fails and says why
///         return 1;
///       }
///     }
///
/// There is no fork, which would copy a process without its threads and with its locks: the same program is started
/// once more, with the same arguments and environment, and what comes before this call runs in both processes. So call
/// it at the beginning of main. Threads do no harm.
///
/// In the process that was started by hand it does not return. It waits, and blocks the thread, until the daemon is
/// ready, and then calls std::exit(0). If the daemon fails, ends, or is not ready in time (it is then stopped: SIGTERM,
/// 10 s, SIGKILL), it prints why on its error output and calls std::exit(1). It throws what spawn() throws, if there
/// cannot be a daemon at all.
///
/// In the daemon it returns, in a process with standard input from /dev/null, outputs to the log files, every other
/// descriptor closed, and each signal at its default action. It throws what cannot be served, `daemonize: pid file
/// "/run/x.pid", pid 4711: already running`; the foreground process has been told then, and outputs go to /dev/null. To
/// call it a second time throws errc::already_running. The daemon leads its session: a terminal that it opens without
/// O_NOCTTY would become its own.
[[nodiscard]] inline daemon daemonize(const daemon_options& options = {}) {
  if (daemon::running_) throw_error("daemonize: this daemon", errc::already_running);
  if (std::getenv(daemon::variable) != nullptr) {
    daemon::running_ = true;
    return daemon::begin(options);
  }
  int status = EXIT_FAILURE;
  {
    asio::io_context context(1);
    asio::co_spawn(context, daemon::start(options), [&status](std::exception_ptr failure, int result) {
      if (failure) std::rethrow_exception(failure);
      status = result;
    });
    context.run();
  }
  std::exit(status);
}

}  // namespace cohort::this_process
