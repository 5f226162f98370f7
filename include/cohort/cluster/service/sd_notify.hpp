// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <fmt/format.h>

#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../core/system.hpp"

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
  sd_notifier() {
    if (const char* where = std::getenv("NOTIFY_SOCKET"); where != nullptr && *where != '\0') set_address(where);
    watchdog_ = read_watchdog();
    if (size_ != 0) {
      socket_.reset(system::call.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (!socket_) throw_error("service manager: socket", errno);
    }
    for (const char* variable : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) {
      const char* const value = std::getenv(variable);
      if (value != nullptr && variable != std::string_view("WATCHDOG_PID")) environment_.emplace_back(variable, value);
      ::unsetenv(variable);
    }
  }

  /// What the process that becomes the service after this one must find in its environment.
  const std::vector<std::pair<std::string, std::string>>& environment() const noexcept { return environment_; }

  /// Whether there is somebody to tell.
  explicit operator bool() const noexcept { return static_cast<bool>(socket_); }

  /// The start is over, or a reload: the process serves.
  void ready() { send("READY=1"); }

  /// A reload has begun; ready() ends it.
  void reloading() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    const auto microseconds = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1'000;
    send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", microseconds));
  }

  /// The process is on its way out.
  void stopping() { send("STOPPING=1"); }

  /// A line for people, as `systemctl status` shows it. Line breaks in it become spaces.
  void status(std::string_view text) {
    std::string message = "STATUS=";
    for (const char c : text) message += c == '\n' || c == '\r' ? ' ' : c;
    send(message);
  }

  /// The process is well. Due before each watchdog_interval() is over.
  void watchdog() { send("WATCHDOG=1"); }

  /// Another process is the service from now on.
  void main_pid(pid_t pid) { send(fmt::format("MAINPID={}", pid)); }

  /// After what time without watchdog() the manager ends this process; empty if it does not watch. Send at half of it,
  /// as sd_watchdog_enabled(3) recommends.
  std::optional<std::chrono::microseconds> watchdog_interval() const noexcept { return watchdog_; }

 private:
  void set_address(std::string_view where) {
    const bool abstract = where.front() == '@';
    if ((!abstract && where.front() != '/') || where.size() < 2 || where.size() >= sizeof address_.sun_path) {
      throw_error(fmt::format("service manager: NOTIFY_SOCKET={}", where), errc::invalid_option);
    }
    address_.sun_family = AF_UNIX;
    std::memcpy(address_.sun_path, where.data(), where.size());
    if (abstract) address_.sun_path[0] = '\0';
    // The size says where an abstract name ends; a path ends with its NUL (unix(7)).
    size_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + where.size() + (abstract ? 0 : 1));
  }

  static std::optional<std::chrono::microseconds> read_watchdog() {
    const auto interval = read_number("WATCHDOG_USEC");
    const auto pid = read_number("WATCHDOG_PID");
    const bool meant = !pid || *pid == static_cast<std::uint64_t>(::getpid());
    if (!interval || !meant) return std::nullopt;
    return std::chrono::microseconds(*interval);
  }

  // Empty if it is not set.
  static std::optional<std::uint64_t> read_number(const char* variable) {
    const char* value = std::getenv(variable);
    if (value == nullptr) return std::nullopt;
    std::uint64_t number = 0;
    const char* const end = value + std::strlen(value);
    const auto parsed = std::from_chars(value, end, number);
    const bool good = parsed.ec == std::errc() && parsed.ptr == end && number != 0;
    constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max() / 1'000;  // in a timer's nanoseconds
    if (!good || number > most) {
      throw_error(fmt::format("service manager: {}={}", variable, value), errc::invalid_option);
    }
    return number;
  }

  void send(std::string_view message) {
    if (!socket_) return;
    iovec part{const_cast<char*>(message.data()), message.size()};  // sendmsg(2) only reads it
    msghdr header{};
    header.msg_name = &address_;
    header.msg_namelen = size_;
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (system::retry(system::call.sendmsg, socket_.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL) == -1) {
      const int error = errno;
      throw_error(fmt::format("service manager: send {}", message.substr(0, message.find('\n'))), error);
    }
  }

  std::vector<std::pair<std::string, std::string>> environment_;
  descriptor socket_;
  sockaddr_un address_{};
  socklen_t size_ = 0;
  std::optional<std::chrono::microseconds> watchdog_;
};

}  // namespace cohort
