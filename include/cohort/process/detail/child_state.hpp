// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include <signal.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <unistd.h>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../exit_status.hpp"

namespace cohort::detail {

/// A child process by its pidfd, which is held until the child has been reaped. Shared by the child object, by those
/// who wait on it and, after its end, by the reaper.
class child_state {
 public:
  explicit child_state(asio::any_io_executor executor) : pidfd_(std::move(executor)) {}
  child_state(const child_state&) = delete;
  ~child_state() { close(); }

  /// Takes charge of a child that has just been started. When this throws, the child is gone.
  void adopt(pid_t pid, descriptor pidfd);

  pid_t pid() const noexcept { return pid_; }
  asio::any_io_executor get_executor() { return pidfd_.get_executor(); }
  int native_handle() { return pidfd_.is_open() ? pidfd_.native_handle() : -1; }

  /// The status, if the child has ended; reaps it then. Throws errc::status_taken if somebody else has.
  const std::optional<exit_status>& collect();

  /// Whether the child has ended. Does not reap it, so that its number stays its own. Throws as collect() does.
  bool ended();

  /// Whether nothing is left to be reaped.
  bool gone() noexcept;

  /// False if the child has been reaped, or in a forked copy of the process that has started it.
  bool signal(int number);

  /// False if the child has been reaped: its number may be another process's then, and so may its group. Throws EPERM
  /// if the child itself refuses the signal; the others have got it then.
  bool signal_tree(int number);

  /// The same, but if the tree cannot be found (without /proc, without a free descriptor) the child and the group that
  /// it leads get the signal. False if the child refuses it (EPERM).
  bool signal_reachable(int number);

  /// Kills the child and its descendants, or those of them that can be found. False if the child refuses that.
  bool kill_tree() noexcept;

  /// Waits until the child is reaped.
  static asio::awaitable<exit_status> wait(std::shared_ptr<child_state> self);

  /// Waits until the child has ended, and does not reap it.
  static asio::awaitable<void> wait_ended(std::shared_ptr<child_state> self);

  /// Kills the child and lets its execution context reap it. One that refuses the signal is left to live.
  static void abandon(std::shared_ptr<child_state> self) noexcept;

  /// Lets its execution context reap the child whenever it ends. The context's run() does not wait for that.
  static void let_live(std::shared_ptr<child_state> self) noexcept;

  /// Calls `ended` when the child has ended, reaped or not; the context's run() does not wait for that. Not called if
  /// the context goes away before.
  static void on_end(std::shared_ptr<child_state> self, std::function<void()> ended);

 private:
  using clock = std::chrono::steady_clock;

  static asio::awaitable<void> until(std::shared_ptr<child_state> self, bool (*done)(child_state&));

  // Whether the child has ended, and how.
  bool ask(siginfo_t& info, int options, rusage* usage);

  // A forked copy of the process that has started the child shares the pidfd, and is not to use it.
  bool is_ours() const noexcept { return ::getpid() == parent_; }

  // Everybody in the tree. False if the child itself refuses the signal.
  bool signal_members(int number);

  // Whether the child has not ended. Asks the pidfd alone, and reaps nobody.
  bool is_running() noexcept;

  // Whether nothing is left to be done: it is reaped, or cannot be waited for.
  bool reap() noexcept;

  // The handler that waits for the end of a killed child. An execution context that goes away destroys it instead of
  // calling it; the child is about to end then, so that it is waited for, with a limit.
  class reaper {
   public:
    explicit reaper(std::shared_ptr<child_state> killed) : killed_(std::move(killed)) {}
    reaper(reaper&&) = default;

    ~reaper();

    void watch();

    void operator()(std::error_code error);

   private:
    std::shared_ptr<child_state> killed_;
  };

  void reap_within(std::chrono::milliseconds limit) noexcept;

  // Out of epoll first: a process that is being started in another thread may hold a copy, and epoll would go on to
  // report it.
  void close() noexcept;

  asio::posix::stream_descriptor pidfd_;
  clock::time_point begun_ = clock::now();
  pid_t pid_ = 0;
  pid_t parent_ = 0;  // the process that has started it
  std::optional<exit_status> status_;
  bool taken_ = false;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "child_state.ipp"
#endif
