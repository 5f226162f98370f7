// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include <sys/types.h>

#include "../process/exit_status.hpp"
#include "exit_reason.hpp"
#include "../schedule/schedule.hpp"

namespace cohort {

/// Something that happened in a cluster.
struct cluster_event {
  enum class kind {
    listening,       ///< `text`: the address, with the port that was chosen
    started,         ///< a worker process runs
    ready,           ///< it serves; `after`: since it was started
    draining,        ///< it accepts no more; `text`: why
    exited,          ///< it is gone; `status`, `reason`
    failed,          ///< something went wrong with it, or with the primary (slot 0), and it goes on; `text`: what
    restarting,      ///< its replacement waits for `after`, there were too many
    not_restarted,   ///< it exited with 78: its slot stays empty
    degraded,        ///< the restart policy starts no more replacement in a slot; `text`: why
    gave_up,         ///< the restart policy has given up; the cluster stops
    reloading,       ///< new workers start, to take the place of those there are; `text`: why
    reloaded,        ///< they have; `after`: the time it took, `text`: the file that they run, if it is the primary's
    reload_failed,   ///< one of them did not get ready: the old ones go on; `text`: which and why
    scaled,          ///< the number of workers was changed; `text`: to what
    upgrading,       ///< a new primary starts, which is to take over; `pid`
    upgraded,        ///< it has: this one stops
    upgrade_failed,  ///< it has not: this one goes on; `text`: why
    schedule_ran,         ///< a run of a schedule has ended, or was missed; `run`
    stopping,        ///< the cluster stops; `text`: why
  };

  cluster_event(kind what_, unsigned slot_ = 0, pid_t pid_ = 0, std::string text_ = {})
      : what(what_), slot(slot_), pid(pid_), text(std::move(text_)) {}

  kind what;
  unsigned slot;      ///< from 1 on; 0 for the cluster as a whole, and for agents
  std::string agent;  ///< the name of the one that this is about
  pid_t pid;
  std::string text;
  std::chrono::microseconds after{0};
  exit_status status;
  exit_reason reason = exit_reason::none;
  std::shared_ptr<const schedule_result> run;
};

namespace detail {

std::string who_of(const cluster_event& event);

std::string ending_of(const cluster_event& event);

/// `schedule "refresh" has run at worker 2 (3.1 ms)`, `schedule "refresh" failed at the agent: no such host`.
std::string run_of(const schedule_result& run);

}  // namespace detail

/// One line without its end, as serve() writes it to stderr: `worker 2 ready, pid 4711 (2.1 ms)`.
std::string to_string(const cluster_event& event);

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "events.ipp"
#endif
