// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "child_state.hpp"

#include "../../core/config.hpp"

#include <cerrno>

#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../core/asio_error.hpp"
#include "../../core/system.hpp"
#include "../../core/uncounted.hpp"
#include "process_tree.hpp"

namespace cohort::detail {

COHORT_INLINE void child_state::adopt(pid_t pid, descriptor pidfd) {
  asio_error error;
  try {
    pidfd_.assign(pidfd.get(), error);
    if (error) throw_error("spawn: watch the child", error);
  } catch (...) {
    siginfo_t info;
    system::call.pidfd_send_signal(pidfd.get(), SIGKILL);
    system::retry(system::call.waitid, pidfd.get(), &info, WEXITED, static_cast<rusage*>(nullptr));
    throw;
  }
  (void)pidfd.release();
  pid_ = pid;
  parent_ = ::getpid();
}

COHORT_INLINE const std::optional<exit_status>& child_state::collect() {
  rusage usage = {};
  siginfo_t info;
  if (!status_ && ask(info, 0, &usage)) {
    status_.emplace(info, usage, std::chrono::duration_cast<std::chrono::microseconds>(clock::now() - begun_));
    close();
  }
  return status_;
}

COHORT_INLINE bool child_state::ended() {
  siginfo_t info;
  return status_ || ask(info, WNOWAIT, nullptr);
}

COHORT_INLINE bool child_state::gone() noexcept {
  try {
    return collect().has_value();
  } catch (...) {
    return taken_;
  }
}

COHORT_INLINE bool child_state::is_running() noexcept {
  pollfd end{native_handle(), POLLIN, 0};
  return pidfd_.is_open() && ::poll(&end, 1, 0) == 0;
}

COHORT_INLINE bool child_state::signal(int number) {
  if (!pidfd_.is_open() || !is_ours()) return false;
  if (system::call.pidfd_send_signal(native_handle(), number) == 0) return true;
  if (errno == ESRCH) return false;
  throw_error(fmt::format("child: signal {}", number), errno);
}

COHORT_INLINE bool child_state::signal_tree(int number) {
  if (!pidfd_.is_open() || !is_ours()) return false;
  if (!signal_members(number)) throw_error(fmt::format("child: kill_tree: signal {}", number), EPERM);
  return true;
}

COHORT_INLINE bool child_state::signal_members(int number) {
  return process_tree(pid_, native_handle()).signal(number);
}

COHORT_INLINE bool child_state::signal_reachable(int number) {
  if (!pidfd_.is_open() || !is_ours()) return true;
  try {
    return signal_members(number);
  } catch (const std::exception&) {
    // There is no /proc, no descriptor or no memory for the tree.
  }
  if (::getpgid(pid_) == pid_) system::call.kill(-pid_, number);
  if (system::call.pidfd_send_signal(native_handle(), number) == 0 || errno == ESRCH) return true;
  if (errno == EPERM) return false;
  throw_error(fmt::format("child: signal {}", number), errno);
}

COHORT_INLINE bool child_state::kill_tree() noexcept {
  try {
    return signal_reachable(SIGKILL);
  } catch (...) {
    return false;
  }
}

COHORT_INLINE asio::awaitable<exit_status> child_state::wait(std::shared_ptr<child_state> self) {
  if (!self) throw_error("child: wait", errc::no_child);
  co_await until(self, [](child_state& child) { return child.collect().has_value(); });
  co_return *self->status_;
}

COHORT_INLINE asio::awaitable<void> child_state::wait_ended(std::shared_ptr<child_state> self) {
  if (!self) throw_error("child: wait", errc::no_child);
  co_await until(self, [](child_state& child) { return child.ended(); });
}

COHORT_INLINE void child_state::abandon(std::shared_ptr<child_state> self) noexcept {
  if (!self->is_ours() || self->gone()) return;
  if (system::call.pidfd_send_signal(self->native_handle(), SIGKILL) == -1) return let_live(std::move(self));
  try {
    reaper(std::move(self)).watch();
  } catch (...) {
    // The reaper's destructor has done what could be done.
  }
}

COHORT_INLINE void child_state::let_live(std::shared_ptr<child_state> self) noexcept {
  if (!self->is_ours() || self->gone()) return;
  try {
    on_end(self, [self] { self->reap(); });
  } catch (...) {
    // It stays a zombie until this process ends.
  }
}

COHORT_INLINE void child_state::on_end(std::shared_ptr<child_state> self, std::function<void()> ended) {
  auto& pidfd = self->pidfd_;
  if (!pidfd.is_open()) return ended();
  pidfd.async_wait(asio::posix::stream_descriptor::wait_read, [self, ended = std::move(ended)](std::error_code) {
    uncounted_wait::ended(self->pidfd_.get_executor());
    // A wait may end for nothing, for an event of whoever had the number before; and with an error when somebody has
    // reaped the child and so closed the pidfd.
    if (self->is_running()) return on_end(self, ended);
    ended();
  });
  uncounted_wait::begun(pidfd.get_executor());
}

COHORT_INLINE asio::awaitable<void> child_state::until(std::shared_ptr<child_state> self, bool (*done)(child_state&)) {
  asio_error error;
  for (;;) {
    // Before the error is looked at: another waiter that has reaped the child has closed the pidfd under this one.
    if (done(*self)) co_return;
    if (error) throw_error("child: wait", error);
    co_await self->pidfd_.async_wait(asio::posix::stream_descriptor::wait_read,
                                     asio::redirect_error(asio::use_awaitable, error));
  }
}

COHORT_INLINE bool child_state::ask(siginfo_t& info, int options, rusage* usage) {
  if (taken_) throw_error("child: wait", errc::status_taken);
  info = {};
  if (system::retry(system::call.waitid, native_handle(), &info, WEXITED | WNOHANG | options, usage) == -1) {
    if (errno != ECHILD) throw_error("child: wait", errno);
    taken_ = true;
    close();
    struct sigaction action = {};
    ::sigaction(SIGCHLD, nullptr, &action);
    const bool ignored = action.sa_handler == SIG_IGN || (action.sa_flags & SA_NOCLDWAIT) != 0;
    throw_error(ignored ? "child: wait: this process ignores SIGCHLD, so that the kernel keeps no status"
                          : "child: wait",
                errc::status_taken);
  }
  return info.si_pid != 0;
}

COHORT_INLINE bool child_state::reap() noexcept {
  try {
    return collect().has_value();
  } catch (...) {
    return true;  // it cannot be waited for, now or later
  }
}

COHORT_INLINE child_state::reaper::~reaper() {
  if (killed_ && killed_->is_ours() && !killed_->reap()) killed_->reap_within(std::chrono::seconds(1));
}

COHORT_INLINE void child_state::reaper::watch() {
  auto& pidfd = killed_->pidfd_;
  pidfd.async_wait(asio::posix::stream_descriptor::wait_read, std::move(*this));
}

COHORT_INLINE void child_state::reaper::operator()(std::error_code error) {
  if (!error && !killed_->reap()) watch();
}

COHORT_INLINE void child_state::reap_within(std::chrono::milliseconds limit) noexcept {
  const auto end = clock::now() + limit;
  auto left = limit;
  do {
    pollfd ready{native_handle(), POLLIN, 0};
    ::poll(&ready, 1, static_cast<int>(left.count()));
    if (reap()) return;
    left = std::chrono::duration_cast<std::chrono::milliseconds>(end - clock::now());
  } while (left.count() > 0);
}

COHORT_INLINE void child_state::close() noexcept {
  if (pidfd_.is_open()) descriptor(pidfd_.release());
}

}  // namespace cohort::detail
