// SPDX-License-Identifier: BSL-1.0
/// Replacing workers while the cluster serves.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "../core/config.hpp"

namespace cohort {

/// What a worker may reach before it is replaced by a fresh one. 0: no limit.
struct recycle_limits {
  recycle_limits() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  std::uint64_t max_connections = 0;
  std::chrono::milliseconds max_age{0};
  std::uint64_t max_memory = 0;  ///< resident, in bytes
  /// Up to this part is taken off each limit at random, so that not all workers reach it together. 0 to 1.
  double jitter = 0.1;

  /// What a worker has reached: "its age" and its like; null if nothing. `fraction` is the worker's own, in [0, 1).
  const char* reached(std::uint64_t connections, std::chrono::milliseconds age, std::uint64_t memory,
                      double fraction) const;
};

/// How workers are replaced while the cluster serves.
struct reload_options {
  reload_options() {}

  /// New workers that start together, before the old ones of their slots are asked to drain. 0: all of them, and then
  /// one that does not get ready leaves the whole old generation serving. With fewer, the slots that are done stay
  /// done.
  unsigned max_surge = 0;

  /// Workers that may be asked to drain before their successors are ready: for machines without the room for both. Then
  /// a new one that does not get ready finds its predecessor gone already, and the slot is left to the restart policy.
  unsigned max_unavailable = 0;

  /// Workers of earlier generations that may still drain when a reload begins; the oldest beyond that are killed. 0: as
  /// many as there are.
  unsigned max_draining = 0;
};

/// What came of a reload.
struct reload_result {
  unsigned generation = 0;  ///< that the new workers belong to
  unsigned replaced = 0;    ///< slots that have a new worker
  unsigned aborted_at = 0;  ///< the slot whose new worker did not get ready; 0 if none, or if the cluster stopped
  std::string reason;       ///< why it was aborted; empty if it was not

  bool success() const noexcept { return reason.empty(); }
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "reload.ipp"
#endif
