// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <climits>
#include <optional>
#include <string>
#include <string_view>

#include <sys/types.h>

#include "../core/asio.hpp"
#include "../core/descriptor.hpp"
#include "../core/error.hpp"
#include "pid_file.hpp"
#include "pipe.hpp"

namespace cohort {
class child;
}

namespace cohort::this_process {

/// How a daemon is to run. Relative paths start at the directory of the process that calls daemonize first.
///
/// Distinct objects: safe. Shared objects: unsafe.
struct daemon_options {
  daemon_options() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  /// The pid file, see cohort::pid_file. Default: none.
  std::optional<std::string> pid_file;
  /// The file that standard output is added to. It is made if there is none (0666 less the umask).
  std::string out = "/dev/null";
  /// The same for the error output. May be the same file.
  std::string err = "/dev/null";
  /// The directory that the daemon runs in. The default keeps no file system from being unmounted.
  std::string cwd = "/";
  /// The file mode creation mask, also for the log files. Default: inherited.
  std::optional<mode_t> umask;
  /// How long the daemon may take until it is ready.
  std::chrono::milliseconds ready_within = std::chrono::seconds(30);
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
  void failed(std::string_view text) noexcept;

 private:
  friend daemon daemonize(const daemon_options& options);

  static constexpr const char* variable = "COHORT_DAEMON_FD";
  static constexpr int number = 3;

  static daemon begin(const daemon_options& options);

  static descriptor take_starter();

  // The pid file comes before everything that a daemon which runs already would notice. Outputs come last: what the
  // runtime has to say before (a sanitizer, the C++ library) is seen in the foreground.
  void set_up(const daemon_options& options);

  static descriptor open(const std::string& path);

  static void connect(const descriptor& file, int target);

  // Nothing for ready, or what has failed, and a NUL. In one piece, because it is no more than PIPE_BUF.
  void tell(std::string_view text) noexcept;

  // In the foreground, from here on: starts the daemon and returns what to exit with.
  static asio::awaitable<int> start(const daemon_options& options);

  // Empty if the daemon is ready, or why it will not be.
  static asio::awaitable<std::string> outcome(child& started, read_pipe& news);

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
[[nodiscard]] daemon daemonize(const daemon_options& options = {});

}  // namespace cohort::this_process

#ifndef COHORT_SEPARATE_COMPILATION
#include "daemonize.ipp"
#endif
