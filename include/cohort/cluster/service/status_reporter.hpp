// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sys/types.h>

#include "../../core/asio.hpp"
#include "../../core/event.hpp"
#include "../events.hpp"
#include "sd_notify.hpp"

namespace cohort {

/// Tells a service manager how a cluster does: ready when all workers have been at one time, stopping, a status of one
/// line, and at half of its interval that the primary is alive.
///
/// What the manager does not take, because it has much to do or is restarted, is told again 250 ms later. The first
/// failure of another kind is said on stderr. Distinct objects: safe. Shared objects: unsafe.
class status_reporter {
 public:
  /// What the manager should have patience for, so that its own limits need not be the cluster's. 0: it is not told.
  struct patience {
    std::chrono::milliseconds boot{0};  ///< of one process, until the first time that all are ready
    std::chrono::milliseconds stop{0};  ///< of the cluster
  };

  /// `workers`: how many there are to be.
  status_reporter(const asio::any_io_executor& executor, sd_notifier manager, std::size_t workers)
      : status_reporter(executor, std::move(manager), workers, patience()) {}

  status_reporter(const asio::any_io_executor& executor, sd_notifier manager, std::size_t workers, patience limits)
      : manager_(std::move(manager)), unsent_(executor), wanted_(workers), limits_(limits) {}

  /// See sd_notifier::environment().
  const std::vector<std::pair<std::string, std::string>>& environment() const noexcept;

  /// Takes note of what has happened, and tells it.
  void note(const cluster_event& event);

  /// Tells again what could not be told, until it is cancelled.
  asio::awaitable<void> retry();

  /// Tells that the loop which this runs on turns, until it is cancelled.
  asio::awaitable<void> keep_alive();

 private:
  void forget(const cluster_event& event);

  std::string status() const;

  void tell();

  sd_notifier manager_;
  event unsent_;
  std::map<unsigned, pid_t> serving_;  // by slot
  std::size_t wanted_;
  patience limits_;
  std::string trouble_, gave_up_, stopping_;
  std::string told_;  // the last status
  std::optional<pid_t> successor_;
  bool replaced_ = false, was_ready_ = false, complained_ = false;
  struct {
    bool reloading = false, ready = false, stopping = false, watchdog = false;
    std::chrono::microseconds patience{0};
  } due_;  // what the manager is to be told next
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "status_reporter.ipp"
#endif
