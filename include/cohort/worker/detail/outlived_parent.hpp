// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <time.h>

#include "../options.hpp"

namespace cohort::detail {

/// Kills this process some time after its parent has died, if it is still there then. A worker ends by draining when
/// its channel tells that the parent is gone; this is for one whose loop does not turn, which would hold the port for
/// ever.
///
/// It takes SIGRTMAX, which the kernel sends when the parent dies (PR_SET_PDEATHSIG(2const)), and a timer that sends
/// SIGKILL: neither needs the loop. There is one in a process.
class outlived_parent {
 public:
  explicit outlived_parent(const worker_options& options);
  ~outlived_parent();

  outlived_parent(const outlived_parent&) = delete;
  outlived_parent& operator=(const outlived_parent&) = delete;

 private:
  static void on_signal(int);

  static inline timer_t timer_{};
  static inline timespec limit_{};
  static inline int parent_ = 0;
  bool armed_ = false;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "outlived_parent.ipp"
#endif
