// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string_view>

namespace cohort {

/// What a slot's worker is about to do, or does.
enum class worker_state {
  waiting,   ///< its start is put off, because there were too many
  starting,  ///< it runs, and has not said that it is ready
  ready,     ///< it serves
  draining,  ///< it accepts no more and finishes; its replacement starts meanwhile, or serves already
  stopping,  ///< the cluster stops, and has asked it to drain
  dead,      ///< reaped, or never started
};

inline std::string_view to_string(worker_state state) noexcept {
  switch (state) {
    case worker_state::waiting: return "waiting";
    case worker_state::starting: return "starting";
    case worker_state::ready: return "ready";
    case worker_state::draining: return "draining";
    case worker_state::stopping: return "stopping";
    case worker_state::dead: return "dead";
  }
  return "unknown";
}

/// Whether a worker may go from one state to the other. There is no way back: a replacement is another worker.
constexpr bool may_follow(worker_state from, worker_state to) noexcept {
  using enum worker_state;
  switch (to) {
    case waiting: return false;
    case starting: return from == waiting;
    case ready: return from == starting;
    case draining: return from == starting || from == ready;
    case stopping: return from == starting || from == ready || from == draining;
    case dead: return from != dead;
  }
  return false;
}

}  // namespace cohort
