// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "restarting.hpp"

#include <utility>

#include <fmt/format.h>

#include "../../core/config.hpp"
#include "../../core/random.hpp"

namespace cohort {

COHORT_INLINE void restarting::on_ready(worker_process& who) {
  context_.enter(who, worker_state::ready);
  context_.options.restart.note_ready(history_);
  cluster_event event = event_about(who, cluster_event::kind::ready);
  event.after = std::chrono::duration_cast<std::chrono::microseconds>(worker_process::clock::now() - who.started());
  context_.emit(std::move(event));
}

COHORT_INLINE exit_reason restarting::on_exit(worker_process& who, const worker_ending& how) {
  cluster_event exited = event_about(who, cluster_event::kind::exited);
  exited.status = how.status;
  const exit_reason reason = exited.reason = classify(how);
  if (who.end.trouble.empty()) who.end.trouble = fmt::to_string(how.status);
  context_.enter(who, worker_state::dead);
  who.peer.close();
  context_.emit(std::move(exited));
  return reason;
}

COHORT_INLINE std::optional<std::chrono::milliseconds> restarting::next_pause(const worker_process& who) {
  const auto now = worker_process::clock::now();
  std::optional<std::chrono::milliseconds> served;
  if (who.ready_since) served = std::chrono::duration_cast<std::chrono::milliseconds>(now - *who.ready_since);
  const auto pause = context_.options.restart.next(history_, now, served, detail::random_fraction());
  if (pause && pause->count() > 0) {
    cluster_event event(cluster_event::kind::restarting, who.number());
    event.agent = who.agent;
    event.after = *pause;
    context_.emit(std::move(event));
  }
  return pause;
}

COHORT_INLINE std::string restarting::why_none(const worker_process& who) const {
  if (!context_.options.restart.replaces) return "the restart policy replaces none";
  if (who.ready_since || !who.agent.empty()) return "too many restarts";
  return fmt::format("worker {} did not get ready", who.number());
}

}  // namespace cohort
