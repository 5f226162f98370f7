// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "this_process.hpp"

#include "../core/config.hpp"

#include <algorithm>
#include <cstdint>

#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "detail/own_program.hpp"

namespace cohort::this_process {

COHORT_INLINE void set_title(std::string_view title) {
  if (title.find('\0') != title.npos) throw_error("this_process: a title with a NUL", errc::invalid_option);
  detail::argument_area::overwrite(title);
  const std::string name(title.substr(0, 15));
  ::prctl(PR_SET_NAME, name.c_str());
}

COHORT_INLINE std::string title() {
  if (detail::argument_area::overwritten()) return detail::argument_area::text();
  auto line = detail::read_own("/proc/self/cmdline");
  while (line.ends_with('\0')) line.pop_back();
  std::replace(line.begin(), line.end(), '\0', ' ');
  return line;
}

COHORT_INLINE std::chrono::milliseconds uptime() {
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
