// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <fmt/format.h>

#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"

namespace cohort {

/// The one who has started this process and wants to hear how it does, systemd for one: the protocol of sd_notify(3).
///
/// Without such a manager every call does nothing. With one, each call sends a datagram and never waits: it throws
/// `service manager: send READY=1: Connection refused` and its like, and EAGAIN when the manager's queue is full; then
/// nothing was sent, and the call may be made again.
///
/// Distinct objects: safe. Shared objects: unsafe.
class sd_notifier {
 public:
  /// Takes NOTIFY_SOCKET (a path, or `@name` for an abstract socket), WATCHDOG_USEC and WATCHDOG_PID, and removes them
  /// from the environment: the children of this process would else speak in its name.
  ///
  /// Call it once, before other threads read the environment. Throws errc::invalid_option with a value that is none of
  /// those (sd_notify(3), sd_watchdog_enabled(3)); then nothing has been removed.
  sd_notifier();

  /// What the process that becomes the service after this one must find in its environment.
  const std::vector<std::pair<std::string, std::string>>& environment() const noexcept { return environment_; }

  /// Whether there is somebody to tell.
  explicit operator bool() const noexcept { return static_cast<bool>(socket_); }

  /// The start is over, or a reload: the process serves.
  void ready() { send("READY=1"); }

  /// A reload has begun; ready() ends it.
  void reloading();

  /// The process is on its way out.
  void stopping() { send("STOPPING=1"); }

  /// What goes on now, the start or the stop, may take so much longer from now on, whatever the manager's own limit is.
  void extend_timeout(std::chrono::microseconds time) { send(fmt::format("EXTEND_TIMEOUT_USEC={}", time.count())); }

  /// A line for people, as `systemctl status` shows it. Line breaks in it become spaces.
  void status(std::string_view text);

  /// The process is well. Due before each watchdog_interval() is over.
  void watchdog() { send("WATCHDOG=1"); }

  /// Another process is the service from now on.
  void main_pid(pid_t pid) { send(fmt::format("MAINPID={}", pid)); }

  /// After what time without watchdog() the manager ends this process; empty if it does not watch. Send at half of it,
  /// as sd_watchdog_enabled(3) recommends.
  std::optional<std::chrono::microseconds> watchdog_interval() const noexcept { return watchdog_; }

 private:
  void set_address(std::string_view where);

  static std::optional<std::chrono::microseconds> read_watchdog();

  // Empty if it is not set.
  static std::optional<std::uint64_t> read_number(const char* variable);

  void send(std::string_view message);

  std::vector<std::pair<std::string, std::string>> environment_;
  descriptor socket_;
  sockaddr_un address_{};
  socklen_t size_ = 0;
  std::optional<std::chrono::microseconds> watchdog_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "sd_notify.ipp"
#endif
