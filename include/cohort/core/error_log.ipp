// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "error_log.hpp"

#include "config.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptor.hpp"
#include "system.hpp"

namespace cohort::error_log {
namespace detail {

/// Writes to the error output without waiting, all of it or nothing.
///
/// O_NONBLOCK would stand on the open file description, which the parent's shell and the workers share. So a pipe or a
/// terminal is opened once more for this moment, which makes a description of our own.
COHORT_INLINE bool write_now(std::string_view text) noexcept {
  const auto size = static_cast<ssize_t>(text.size());
  struct stat what {};
  if (::fstat(STDERR_FILENO, &what) != 0) return false;
  if (S_ISSOCK(what.st_mode)) {
    return ::send(STDERR_FILENO, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL) == size;
  }
  if (!S_ISFIFO(what.st_mode) && !S_ISCHR(what.st_mode)) {
    return system::call.write(STDERR_FILENO, text.data(), text.size()) == size;
  }
  const descriptor own(::open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (own) return system::call.write(own.get(), text.data(), text.size()) == size;
  // It is another user's, or there is no descriptor left. Nobody else should fill it between the look and the write.
  pollfd there{STDERR_FILENO, POLLOUT, 0};
  if (::poll(&there, 1, 0) != 1 || (there.revents & POLLOUT) == 0) return false;
  return system::call.write(STDERR_FILENO, text.data(), text.size()) == size;
}

struct state {
  std::mutex mutex;
  std::atomic<std::uint64_t> lost{0};
  std::uint64_t told = 0;
};

/// There is one error output in a process.
COHORT_INLINE state& of_process() noexcept {
  static state here;
  return here;
}

}  // namespace detail

COHORT_INLINE void write(std::string_view line) noexcept {
  auto& here = detail::of_process();
  const std::lock_guard only(here.mutex);
  constexpr std::size_t longest = 2048;  // with what stands before it less than PIPE_BUF, which a pipe takes whole
  char text[longest + 128];
  int size = 0;
  const auto untold = here.lost - here.told;
  if (untold != 0) {
    const unsigned long long count = untold;
    size = std::snprintf(text, sizeof text, "(%llu lines of this log are lost)\n", count);
  }
  const auto length = std::min(line.size(), longest);
  std::memcpy(text + size, line.data(), length);
  text[static_cast<std::size_t>(size) + length] = '\n';
  if (detail::write_now({text, static_cast<std::size_t>(size) + length + 1})) {
    here.told += untold;
  } else {
    ++here.lost;
  }
}

COHORT_INLINE std::uint64_t lost() noexcept { return detail::of_process().lost; }

COHORT_INLINE void open_standard_descriptors() noexcept {
  for (int number = 0; number <= STDERR_FILENO; ++number) {
    if (::fcntl(number, F_GETFD) != -1 || errno != EBADF) continue;
    const int opened = ::open("/dev/null", O_RDWR);  // the lowest number that is free: this one
    if (opened > STDERR_FILENO) ::close(opened);
  }
}

}  // namespace cohort::error_log
