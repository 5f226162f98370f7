// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "events.hpp"

#include "../core/config.hpp"

#include <fmt/format.h>

namespace cohort {

namespace detail {

COHORT_INLINE std::string who_of(const cluster_event& event) {
  if (!event.agent.empty()) return "agent " + event.agent;
  return event.slot != 0 ? fmt::format("worker {}", event.slot) : std::string("primary");
}

COHORT_INLINE std::string ending_of(const cluster_event& event) {
  const auto code = event.status.code();
  std::string text = code ? fmt::format("status {}", *code) : fmt::to_string(event.status);
  if (event.reason == exit_reason::out_of_memory) text += ", out of memory";
  if (event.reason == exit_reason::hang) text += ", it did not answer";
  return text;
}

COHORT_INLINE std::string run_of(const schedule_result& run) {
  const std::string where = run.worker != 0 ? fmt::format(" at worker {}", run.worker) : std::string();
  const auto milliseconds = std::chrono::duration<double, std::milli>(run.duration).count();
  if (run.ok) return fmt::format("schedule \"{}\" has run{} ({:.1f} ms)", run.name, where, milliseconds);
  return fmt::format("schedule \"{}\" failed{}: {}", run.name, where, run.what);
}

}  // namespace detail

COHORT_INLINE std::string to_string(const cluster_event& event) {
  using kind = cluster_event::kind;
  const auto milliseconds = std::chrono::duration<double, std::milli>(event.after).count();
  const std::string who = detail::who_of(event);
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
    case kind::reloaded:
      if (event.text.empty()) return fmt::format("reloaded ({:.1f} ms)", milliseconds);
      return fmt::format("reloaded {} ({:.1f} ms)", event.text, milliseconds);
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
