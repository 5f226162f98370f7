// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>

#include <signal.h>

#include "../process/exit_status.hpp"
#include "../worker/protocol.hpp"

namespace cohort {

/// Why a worker has ended.
enum class exit_reason {
  none,            ///< it has not
  asked,           ///< it was to: by the cluster, or by a SIGTERM
  fatal,           ///< an exception that it should not live on with, or any status that is not 0
  crash,           ///< a signal has killed it
  hang,            ///< it did not answer, and was killed for that
  out_of_memory,   ///< the kernel has killed it for want of memory
  boot_failure,    ///< it ended, or its time was up, before it was ready
  do_not_restart,  ///< it does not want a successor: status 78
};

inline std::string_view to_string(exit_reason reason) noexcept {
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

/// What is known of a worker that has ended.
struct worker_ending {
  exit_status status;
  bool was_ready = false;
  bool asked = false;          ///< told to drain by the cluster
  bool hung = false;           ///< it did not answer
  bool killed = false;         ///< by the cluster
  bool out_of_memory = false;  ///< the kernel has killed somebody for want of memory while it ran
};

inline exit_reason classify(const worker_ending& how) noexcept {
  if (how.status.code() == static_cast<int>(worker_exit::do_not_restart)) return exit_reason::do_not_restart;
  if (how.hung) return exit_reason::hang;
  if (how.out_of_memory && !how.killed && how.status.signal() == SIGKILL) return exit_reason::out_of_memory;
  if (how.asked && (how.status.success() || how.killed)) return exit_reason::asked;
  if (!how.was_ready) return exit_reason::boot_failure;
  if (how.status.success()) return exit_reason::asked;
  return how.status.signal() ? exit_reason::crash : exit_reason::fatal;
}

namespace detail {

/// How many processes the kernel has killed for want of memory since it was started (oom_kill, Linux 4.13); 0 where
/// that cannot be read.
inline std::uint64_t count_oom_kills() {
  std::ifstream file("/proc/vmstat");
  std::string name;
  for (std::uint64_t value = 0; file >> name >> value;) {
    if (name == "oom_kill") return value;
  }
  return 0;
}

}  // namespace detail
}  // namespace cohort
