// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "../../core/asio.hpp"
#include "../../ipc/peer.hpp"
#include "../distribution/listener_set.hpp"
#include "../supervision/primary_context.hpp"
#include "../supervision/rolling_update.hpp"
#include "../supervision/worker_supervisor.hpp"
#include "predecessor.hpp"
#include "protocol.hpp"
#include "result.hpp"

namespace cohort {

/// Hands the listeners of a primary over to another one that takes its place, and takes them from the one before. The
/// cluster owns it.
///
/// Distinct objects: safe. Shared objects: unsafe.
class handover {
 public:
  handover(primary_context& context, worker_supervisor& workers, rolling_update& updates, listener_set& listeners)
      : context_(context), workers_(workers), updates_(updates), listeners_(listeners) {}

  handover(const handover&) = delete;
  handover& operator=(const handover&) = delete;

  /// See cluster::upgrade(). When it has succeeded, the successor serves and this primary is to stop.
  asio::awaitable<upgrade_result> upgrade(std::vector<std::pair<std::string, std::string>> environment);

  /// Whether there is a successor that is not ready. It has been told how many workers there are.
  bool is_under_way() const noexcept { return successor_ != nullptr; }

  /// The cluster stops: the successor is to go too.
  void on_stop();

  /// All workers serve: what the predecessor has lent is this cluster's, and the predecessor goes.
  asio::awaitable<void> succeed(upgrade::predecessor& predecessor);

 private:
  using successor_peer = peer<upgrade::protocol>;

  asio::awaitable<successor_peer> start(std::vector<std::pair<std::string, std::string>> environment);

  /// Hands the listeners to the successor and waits for its word; returns what is wrong, if anything.
  asio::awaitable<std::string> hand_over_to(successor_peer& successor);

  /// Ends a successor that will not be one, unless it does so itself, as one does that gives up.
  static asio::awaitable<exit_status> end(successor_peer& successor);

  primary_context& context_;
  worker_supervisor& workers_;
  rolling_update& updates_;
  listener_set& listeners_;
  successor_peer* successor_ = nullptr;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "handover.ipp"
#endif
