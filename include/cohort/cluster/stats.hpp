// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "../net/accept_queue.hpp"
#include "../process/exit_status.hpp"
#include "exit_reason.hpp"
#include "worker_state.hpp"

namespace cohort {

/// A worker as the primary sees it.
struct worker_stats {
  unsigned slot = 0;
  unsigned generation = 0;
  pid_t pid = 0;  ///< 0 while it waits for its start
  worker_state state = worker_state::waiting;
  std::chrono::milliseconds uptime{0};

  /// Connections that the primary has accepted for it and that have not ended, as it has said; it says so with its
  /// answers to pings, and soon after each change where the distribution or worker_options::max_connections counts
  /// them.
  std::size_t leased = 0;

  std::uint64_t refused = 0;  ///< messages, introductions, events and counters beyond process_limits

  // as of its last answer to a ping
  std::uint32_t open = 0;            ///< connections being served
  std::uint64_t served = 0;          ///< connections that have ended
  std::uint64_t memory = 0;          ///< resident, in bytes
  std::chrono::microseconds lag{0};  ///< from the ping to its answer: how late its loop is
};

/// A slot's past.
struct slot_stats {
  unsigned slot = 0;
  bool degraded = false;                 ///< the restart policy has given it up: it is empty until the next reload
  std::uint64_t restarts = 0;            ///< workers that took the place of one that had ended by itself
  std::optional<exit_status> last_exit;  ///< of the worker that ended last
  exit_reason last_reason = exit_reason::none;
  std::string last_trouble;  ///< what that one said, or was found wrong with it
};

/// An agent, and those that have been in its place.
struct agent_stats {
  std::string name;
  pid_t pid = 0;  ///< 0 while there is none
  worker_state state = worker_state::dead;
  std::chrono::milliseconds uptime{0};
  std::uint64_t restarts = 0;
  std::uint64_t memory = 0;  ///< resident, in bytes
};

/// An address that the cluster listens on.
struct listener_stats {
  std::string address;                ///< with the port that was chosen
  std::optional<accept_queue> queue;  ///< of TCP alone, and while the cluster listens
};

/// A cluster at one moment.
struct cluster_stats {
  unsigned generation = 0;  ///< 1, and one more for each reload
  unsigned wanted = 0;      ///< workers that there should be
  unsigned ready = 0;       ///< workers that serve
  std::uint64_t restarts = 0;
  std::uint64_t reloads = 0;
  std::chrono::milliseconds uptime{0};
  bool stopping = false;    ///< it was told to stop
  bool in_service = false;  ///< all have been ready, a worker serves, it was not told to stop: clients should come here
  std::uint64_t served = 0;          ///< connections that have ended, those of workers that are gone included
  std::uint64_t lost_log_lines = 0;  ///< see error_log::write
  std::map<std::string, std::uint64_t> counters;  ///< see worker::counter(); those of processes that are gone included
  std::vector<listener_stats> listeners;
  std::vector<worker_stats> workers;
  std::vector<slot_stats> slots;
  std::vector<agent_stats> agents;  ///< as the options name them
};

}  // namespace cohort
