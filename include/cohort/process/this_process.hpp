// SPDX-License-Identifier: BSL-1.0
/// How this process looks from outside: its title, and since when it runs. See also daemonize.hpp.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "../core/error.hpp"
#include "detail/own_program.hpp"

namespace cohort::this_process {

/// Sets what ps and /proc/<pid>/cmdline show as the command line of this process, and, as its name in /proc/<pid>/comm
/// and top, the first 15 bytes of that (PR_SET_NAME(2const)).
///
/// The room is that of the arguments and the environment that the program was started with, and 4095 bytes at most: a
/// longer title is cut. The first call moves both elsewhere: main's argv, environ and program_invocation_name are valid
/// as before and say the same; a `char*` that was taken OUT of argv or that getenv() returned before the first call now
/// points into the title (at a string that ends, but another one), and /proc/<pid>/environ shows the environment no
/// more. So call it once at the beginning of main.
///
/// Call it from the main thread, whose name is the process's, and for the first time before another thread reads the
/// environment. Throws errc::invalid_option for a title with a NUL inside, and an errno where there is no /proc.
inline void set_title(std::string_view title) {
  if (title.find('\0') != title.npos) throw_error("this_process: a title with a NUL", errc::invalid_option);
  detail::argument_area::overwrite(title);
  const std::string name(title.substr(0, 15));
  ::prctl(PR_SET_NAME, name.c_str());
}

/// The title, as much of it as is shown; until one is set, the command line that the program was started with, with
/// spaces between the arguments. Thread rule as set_title(). Throws an errno where there is no /proc.
inline std::string title() {
  if (detail::argument_area::overwritten()) return detail::argument_area::text();
  auto line = detail::read_own("/proc/self/cmdline");
  while (line.ends_with('\0')) line.pop_back();
  std::replace(line.begin(), line.end(), '\0', ' ');
  return line;
}

/// How long this process exists, in steps of a kernel tick (10 ms), with the time in which the machine was suspended.
/// A process goes on existing when it executes another program. Safe from any thread. Throws an errno where there is no
/// /proc.
inline std::chrono::milliseconds uptime() {
  using std::chrono::milliseconds;
  constexpr std::size_t start_time = 22;  // in ticks since the machine was started (proc(5))
  const auto ticks_per_second = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
  const detail::own_stat stat;
  const milliseconds started(stat[start_time] * 1000 / ticks_per_second);
  timespec now = {};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  const milliseconds running(now.tv_sec * 1000 + now.tv_nsec / 1'000'000);
  return std::max(running - started, milliseconds(0));
}

}  // namespace cohort::this_process
