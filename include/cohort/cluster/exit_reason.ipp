// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "exit_reason.hpp"

#include "../core/config.hpp"

#include <fstream>
#include <string>

#include <signal.h>

#include "../worker/exit_codes.hpp"

namespace cohort {

COHORT_INLINE std::string_view to_string(exit_reason reason) noexcept {
  switch (reason) {
    case exit_reason::none: return "none";
    case exit_reason::asked: return "asked";
    case exit_reason::fatal: return "fatal";
    case exit_reason::crash: return "crash";
    case exit_reason::hang: return "hang";
    case exit_reason::out_of_memory: return "out of memory";
    case exit_reason::boot_failure: return "boot failure";
    case exit_reason::do_not_restart: return "do not restart";
  }
  return "unknown";
}

COHORT_INLINE exit_reason classify(const worker_ending& how) noexcept {
  if (how.status.code() == static_cast<int>(worker_exit::do_not_restart)) return exit_reason::do_not_restart;
  if (how.hung) return exit_reason::hang;
  if (how.out_of_memory && !how.killed && how.status.signal() == SIGKILL) return exit_reason::out_of_memory;
  if (how.asked && (how.status.success() || how.killed)) return exit_reason::asked;
  if (!how.was_ready) return exit_reason::boot_failure;
  if (how.status.success()) return exit_reason::asked;
  return how.status.signal() ? exit_reason::crash : exit_reason::fatal;
}

namespace detail {

COHORT_INLINE std::uint64_t count_oom_kills() {
  std::ifstream file("/proc/vmstat");
  std::string name;
  for (std::uint64_t value = 0; file >> name >> value;) {
    if (name == "oom_kill") return value;
  }
  return 0;
}

}  // namespace detail

}  // namespace cohort
