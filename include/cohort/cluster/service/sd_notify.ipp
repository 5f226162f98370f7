// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "sd_notify.hpp"

#include "../../core/config.hpp"

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <system_error>

#include "../../core/system.hpp"

namespace cohort {

COHORT_INLINE sd_notifier::sd_notifier() {
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

COHORT_INLINE void sd_notifier::reloading() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const auto microseconds = static_cast<std::uint64_t>(now.tv_sec * 1'000'000 + now.tv_nsec / 1'000);
  send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", microseconds));
}

COHORT_INLINE void sd_notifier::status(std::string_view text) {
  std::string message = "STATUS=";
  for (const char c : text) message += c == '\n' || c == '\r' ? ' ' : c;
  send(message);
}

COHORT_INLINE void sd_notifier::set_address(std::string_view where) {
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

COHORT_INLINE std::optional<std::chrono::microseconds> sd_notifier::read_watchdog() {
  const auto interval = read_number("WATCHDOG_USEC");
  const auto pid = read_number("WATCHDOG_PID");
  const bool meant = !pid || *pid == static_cast<std::uint64_t>(::getpid());
  if (!interval || !meant) return std::nullopt;
  return std::chrono::microseconds(*interval);
}

COHORT_INLINE std::optional<std::uint64_t> sd_notifier::read_number(const char* variable) {
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

COHORT_INLINE void sd_notifier::send(std::string_view message) {
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

}  // namespace cohort
