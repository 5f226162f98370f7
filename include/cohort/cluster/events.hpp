// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>
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
    failed,          ///< something went wrong with it that is not its exit; `text`: what
    restarting,      ///< its replacement waits for `after`, there were too many
    not_restarted,   ///< it exited with 78: its slot stays empty
    degraded,        ///< the restart policy starts no more replacement in a slot; `text`: why
    gave_up,         ///< the restart policy has given up; the cluster stops
    reloading,       ///< new workers start, to take the place of those there are; `text`: why
    reloaded,        ///< they have; `after`: the time it took
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

inline std::string ending_of(const cluster_event& event) {
  const auto code = event.status.code();
  std::string text = code ? fmt::format("status {}", *code) : fmt::to_string(event.status);
  if (event.reason == exit_reason::out_of_memory) text += ", out of memory";
  if (event.reason == exit_reason::hang) text += ", it did not answer";
  return text;
}

/// `schedule "refresh" has run at worker 2 (3.1 ms)`, `schedule "refresh" failed at the agent: no such host`.
inline std::string run_of(const schedule_result& run) {
  const std::string where = run.worker != 0 ? fmt::format(" at worker {}", run.worker) : std::string();
  const auto milliseconds = std::chrono::duration<double, std::milli>(run.duration).count();
  if (run.ok) return fmt::format("schedule \"{}\" has run{} ({:.1f} ms)", run.name, where, milliseconds);
  return fmt::format("schedule \"{}\" failed{}: {}", run.name, where, run.what);
}

}  // namespace detail

/// One line without its end, as serve() writes it to stderr: `worker 2 ready, pid 4711 (2.1 ms)`.
inline std::string to_string(const cluster_event& event) {
  using kind = cluster_event::kind;
  const auto milliseconds = std::chrono::duration<double, std::milli>(event.after).count();
  const std::string who = event.agent.empty() ? fmt::format("worker {}", event.slot) : "agent " + event.agent;
  switch (event.what) {
    case kind::listening: return fmt::format("listening on {}", event.text);
    case kind::started: return fmt::format("{} started, pid {}", who, event.pid);
    case kind::ready: return fmt::format("{} ready, pid {} ({:.1f} ms)", who, event.pid, milliseconds);
    case kind::draining: return fmt::format("{} draining, pid {}: {}", who, event.pid, event.text);
    case kind::exited: return fmt::format("{} exited, pid {}: {}", who, event.pid, detail::ending_of(event));
    case kind::failed:
      if (event.pid == 0) return fmt::format("{} failed: {}", who, event.text);
      return fmt::format("{} failed, pid {}: {}", who, event.pid, event.text);
    case kind::restarting: return fmt::format("{} restarts in {:.1f} s: too many restarts", who, milliseconds / 1000);
    case kind::not_restarted: return fmt::format("{} will not be restarted", who);
    case kind::degraded: return fmt::format("{} will not be replaced: {}", who, event.text);
    case kind::gave_up: return fmt::format("gave up: {}", event.text);
    case kind::reloading: return fmt::format("reloading: {}", event.text);
    case kind::reloaded: return fmt::format("reloaded ({:.1f} ms)", milliseconds);
    case kind::reload_failed: return fmt::format("reload failed: {}", event.text);
    case kind::scaled: return fmt::format("scaled to {}", event.text);
    case kind::upgrading: return fmt::format("upgrading: primary {} starts", event.pid);
    case kind::upgraded: return fmt::format("upgraded: primary {} serves", event.pid);
    case kind::upgrade_failed: return fmt::format("upgrade failed: {}", event.text);
    case kind::schedule_ran: return event.run ? detail::run_of(*event.run) : std::string();
    case kind::stopping: return fmt::format("stopping: {}", event.text);
  }
  return {};
}

}  // namespace cohort
