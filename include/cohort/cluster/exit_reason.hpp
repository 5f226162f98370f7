// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <string_view>

#include "../core/config.hpp"
#include "../process/exit_status.hpp"

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

std::string_view to_string(exit_reason reason) noexcept;

/// What is known of a worker that has ended.
struct worker_ending {
  exit_status status;
  bool was_ready = false;
  bool asked = false;          ///< told to drain by the cluster
  bool hung = false;           ///< it did not answer
  bool killed = false;         ///< by the cluster
  bool out_of_memory = false;  ///< the kernel has killed somebody for want of memory while it ran
};

/// Why a worker has ended, from what is known of its end.
exit_reason classify(const worker_ending& how) noexcept;

namespace detail {

/// How many processes the kernel has killed for want of memory since it was started (oom_kill, Linux 4.13); 0 where
/// that cannot be read.
std::uint64_t count_oom_kills();

}  // namespace detail
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "exit_reason.ipp"
#endif
