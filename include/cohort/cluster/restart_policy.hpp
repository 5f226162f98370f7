// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <optional>

#include "../core/config.hpp"

namespace cohort {

/// What a restart policy does when it starts no more replacements.
enum class give_up_action {
  shut_down,  ///< the cluster stops, and whoever runs it hears of that
  degrade,    ///< the slot stays empty until the next reload, and the others go on; without any worker it shuts down
};

/// What becomes of the others when a worker ends by itself.
enum class restart_scope {
  one_for_one,  ///< nothing
  one_for_all,  ///< they are replaced as a reload replaces them: for workers that share what may have broken
};

/// When a worker that ended is replaced: at once, as long as that does not happen too often; then after a pause that
/// doubles; and never again when the program evidently cannot start. A pure value, which asks no clock.
class restart_policy {
 public:
  using clock = std::chrono::steady_clock;
  using duration = std::chrono::milliseconds;

  restart_policy() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  /// No worker is replaced that ends by itself; the others go on, and without any worker the cluster shuts down.
  static restart_policy never();

  /// Whether there are replacements at all.
  bool replaces = true;
  /// Replacements at once, within `window`.
  std::size_t max_restarts = 10;
  duration window{60'000};
  /// The first pause beyond that; each further one is twice as long, up to the longest.
  duration min_backoff{1'000};
  duration max_backoff{30'000};
  /// Up to this part of a pause is taken off at random, so that several do not end together. 0 to 1.
  double jitter = 0.2;
  /// Workers in a row that ended without having been ready, after which it gives up.
  std::size_t max_failed_boots = 20;
  /// One that has not been ready for so long is another that failed to boot.
  duration min_uptime{0};

  give_up_action on_give_up = give_up_action::shut_down;
  restart_scope scope = restart_scope::one_for_one;

  /// What has happened so far.
  struct history {
    std::deque<clock::time_point> restarts;  // at once or not, within the window
    std::size_t failed_boots = 0;            // in a row
    std::size_t backoffs = 0;                // pauses in a row
    bool ever_ready = false;
  };

  /// Takes note that a worker has become ready.
  void note_ready(history& past) const;

  /// Decides about a worker that ended at `now`, and takes note of it: how long to wait before its replacement is
  /// started, or nothing to give up. `served` is how long it had been ready, if ever; `random` is in [0, 1).
  ///
  /// A cluster in which no worker has ever been ready gives up as soon as it would have to pause: it cannot serve
  /// anyway, and whoever starts it should hear of it.
  std::optional<duration> next(history& past, clock::time_point now, std::optional<duration> served,
                               double random) const;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "restart_policy.ipp"
#endif
