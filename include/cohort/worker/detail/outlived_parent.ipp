// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "outlived_parent.hpp"

#include "../../core/config.hpp"

#include <cerrno>
#include <chrono>

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

namespace cohort::detail {

COHORT_INLINE outlived_parent::outlived_parent(const worker_options& options) {
  // By the parent's death alone this process must not end: that would lose requests.
  ::prctl(PR_SET_PDEATHSIG, 0);
  const auto drain = options.drain_timeout < longest_time ? options.drain_timeout : longest_time;
  const auto limit = drain + (options.tear_down ? drain : std::chrono::milliseconds(0)) + std::chrono::seconds(2);
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(limit);
  limit_.tv_sec = static_cast<time_t>(whole.count());
  limit_.tv_nsec = static_cast<long>(std::chrono::nanoseconds(limit - whole).count());
  parent_ = ::getppid();
  sigevent how{};
  how.sigev_notify = SIGEV_SIGNAL;
  how.sigev_signo = SIGKILL;
  if (::timer_create(CLOCK_MONOTONIC, &how, &timer_) != 0) return;
  armed_ = true;
  struct sigaction action {};
  action.sa_handler = &outlived_parent::on_signal;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGRTMAX, &action, nullptr);
  sigset_t handled;
  sigemptyset(&handled);
  sigaddset(&handled, SIGRTMAX);
  ::pthread_sigmask(SIG_UNBLOCK, &handled, nullptr);
  ::prctl(PR_SET_PDEATHSIG, SIGRTMAX);
}

COHORT_INLINE outlived_parent::~outlived_parent() {
  if (!armed_) return;
  ::prctl(PR_SET_PDEATHSIG, 0);
  ::signal(SIGRTMAX, SIG_IGN);
  ::timer_delete(timer_);
}

COHORT_INLINE void outlived_parent::on_signal(int) {
  const int error = errno;
  // The kernel sends it also when only the thread ends that has started this process (prctl(2)).
  if (::getppid() != parent_) {
    const itimerspec once{{}, limit_};
    ::timer_settime(timer_, 0, &once, nullptr);
  }
  errno = error;
}

}  // namespace cohort::detail
