// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../core/system.hpp"
#include "../exit_status.hpp"
#include "process_tree.hpp"

namespace cohort::detail {

/// A child process by its pidfd, which is held until the child has been reaped. Shared by the child object, by those
/// who wait on it and, after its end, by the reaper.
class child_state {
 public:
  explicit child_state(asio::any_io_executor executor) : pidfd_(std::move(executor)) {}
  child_state(const child_state&) = delete;
  ~child_state() { close(); }

  /// Takes charge of a child that has just been started. When this throws, the child is gone.
  void adopt(pid_t pid, descriptor pidfd) {
    std::error_code error;
    pidfd_.assign(pidfd.get(), error);
    if (error) {
      siginfo_t info;
      system::call.pidfd_send_signal(pidfd.get(), SIGKILL);
      system::retry(system::call.waitid, pidfd.get(), &info, WEXITED, static_cast<rusage*>(nullptr));
      throw_error("spawn: watch the child", error);
    }
    (void)pidfd.release();
    pid_ = pid;
  }

  pid_t pid() const noexcept { return pid_; }
  asio::any_io_executor get_executor() { return pidfd_.get_executor(); }
  int native_handle() { return pidfd_.is_open() ? pidfd_.native_handle() : -1; }

  /// The status, if the child has ended; reaps it then. Throws errc::status_taken if somebody else has.
  const std::optional<exit_status>& collect() {
    rusage usage = {};
    siginfo_t info;
    if (!status_ && ask(info, 0, &usage)) {
      status_.emplace(info, usage, std::chrono::duration_cast<std::chrono::microseconds>(clock::now() - begun_));
      close();
    }
    return status_;
  }

  /// Whether the child has ended. Does not reap it, so that its number stays its own. Throws as collect() does.
  bool ended() {
    siginfo_t info;
    return status_ || ask(info, WNOWAIT, nullptr);
  }

  /// Whether nothing is left to be reaped.
  bool gone() noexcept {
    try {
      return collect().has_value();
    } catch (...) {
      return taken_;
    }
  }

  /// False if the child has been reaped.
  bool signal(int number) {
    if (!pidfd_.is_open()) return false;
    if (system::call.pidfd_send_signal(native_handle(), number) == 0) return true;
    if (errno == ESRCH) return false;
    throw_error(fmt::format("child: signal {}", number), errno);
  }

  /// False if the child has been reaped: its number may be another process's then, and so may its group.
  bool signal_tree(int number) {
    if (!signal(0)) return false;
    process_tree(pid_, native_handle()).signal(number);
    return true;
  }

  /// Kills the child and its descendants, or what can be killed of them with no free descriptor or without /proc.
  void kill_tree() noexcept {
    try {
      signal_tree(SIGKILL);
    } catch (...) {
      if (::getpgid(pid_) == pid_) ::kill(-pid_, SIGKILL);
      system::call.pidfd_send_signal(native_handle(), SIGKILL);
    }
  }

  /// Waits until the child is reaped.
  static asio::awaitable<exit_status> wait(std::shared_ptr<child_state> self) {
    if (!self) throw_error("child: wait", errc::no_child);
    co_await until(self, [](child_state& child) { return child.collect().has_value(); });
    co_return *self->status_;
  }

  /// Waits until the child has ended, and does not reap it.
  static asio::awaitable<void> wait_ended(std::shared_ptr<child_state> self) {
    if (!self) throw_error("child: wait", errc::no_child);
    co_await until(self, [](child_state& child) { return child.ended(); });
  }

  /// Kills the child and lets its execution context reap it.
  static void abandon(std::shared_ptr<child_state> self) noexcept {
    if (self->gone()) return;
    system::call.pidfd_send_signal(self->native_handle(), SIGKILL);
    try {
      reaper(std::move(self)).watch();
    } catch (...) {
      // The reaper's destructor has done what could be done.
    }
  }

 private:
  using clock = std::chrono::steady_clock;

  static asio::awaitable<void> until(std::shared_ptr<child_state> self, bool (*done)(child_state&)) {
    std::error_code error;
    for (;;) {
      // Before the error is looked at: another waiter that has reaped the child has closed the pidfd under this one.
      if (done(*self)) co_return;
      if (error) throw_error("child: wait", error);
      co_await self->pidfd_.async_wait(asio::posix::stream_descriptor::wait_read,
                                       asio::redirect_error(asio::use_awaitable, error));
    }
  }

  // Whether the child has ended, and how.
  bool ask(siginfo_t& info, int options, rusage* usage) {
    if (taken_) throw_error("child: wait", errc::status_taken);
    info = {};
    if (system::retry(system::call.waitid, native_handle(), &info, WEXITED | WNOHANG | options, usage) == -1) {
      if (errno != ECHILD) throw_error("child: wait", errno);
      taken_ = true;
      close();
      throw_error("child: wait", errc::status_taken);
    }
    return info.si_pid != 0;
  }

  // The handler that waits for the end of a killed child. An execution context that goes away destroys it instead of
  // calling it; the child is about to end then, so that it is waited for, with a limit.
  class reaper {
   public:
    explicit reaper(std::shared_ptr<child_state> killed) : killed_(std::move(killed)) {}
    reaper(reaper&&) = default;

    ~reaper() {
      if (killed_ && !killed_->gone()) killed_->reap_within(std::chrono::seconds(1));
    }

    void watch() {
      auto& pidfd = killed_->pidfd_;
      pidfd.async_wait(asio::posix::stream_descriptor::wait_read, std::move(*this));
    }

    void operator()(std::error_code error) {
      if (!error && !killed_->gone()) watch();
    }

   private:
    std::shared_ptr<child_state> killed_;
  };

  void reap_within(std::chrono::milliseconds limit) noexcept {
    const auto end = clock::now() + limit;
    auto left = limit;
    do {
      pollfd ready{native_handle(), POLLIN, 0};
      ::poll(&ready, 1, static_cast<int>(left.count()));
      if (gone()) return;
      left = std::chrono::duration_cast<std::chrono::milliseconds>(end - clock::now());
    } while (left.count() > 0);
  }

  // Out of epoll first: a process that is being started in another thread may hold a copy, and epoll would go on to
  // report it.
  void close() noexcept {
    if (pidfd_.is_open()) descriptor(pidfd_.release());
  }

  asio::posix::stream_descriptor pidfd_;
  clock::time_point begun_ = clock::now();
  pid_t pid_ = 0;
  std::optional<exit_status> status_;
  bool taken_ = false;
};

}  // namespace cohort::detail
