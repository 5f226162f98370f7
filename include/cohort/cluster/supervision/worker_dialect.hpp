// SPDX-License-Identifier: BSL-1.0
/// Workers that are no programs of this library: how a primary starts them, and who speaks for them.
#pragma once

#include <memory>
#include <vector>

#include "../../core/asio.hpp"
#include "../../ipc/channel_options.hpp"
#include "../../ipc/peer.hpp"
#include "../../process/command.hpp"
#include "../../worker/protocol.hpp"
#include "../upgrade/protocol.hpp"

namespace cohort {

class worker_process;

/// Starts the workers of a cluster that speak another protocol than worker_protocol, and translates for each of them.
/// The primary supervises a channel whose other end the dialect has, in this same process: restarts, reloads, upgrades
/// and figures are those of any other worker. cluster_options::dialect makes one; the cluster owns it.
///
/// Connections do not go by that channel: a dialect adds listeners of its own to the listener_set, as workers ask for
/// them.
///
/// Distinct objects: safe. Shared objects: unsafe. It runs on the cluster's executor.
class worker_dialect {
 public:
  worker_dialect() = default;
  worker_dialect(const worker_dialect&) = delete;
  worker_dialect& operator=(const worker_dialect&) = delete;
  virtual ~worker_dialect() = default;

  /// Starts the process of a worker. Throws what spawn() throws.
  virtual asio::awaitable<peer<worker_protocol>> start(std::shared_ptr<worker_process> who, command program,
                                                       channel_options channel) = 0;

  /// Listeners of a predecessor. They are the predecessor's until the workers serve.
  virtual void inherit(std::vector<upgrade::listener> handed) = 0;

  /// All workers serve: listeners that no worker has asked for are not needed.
  virtual void drop_inherited() = 0;

  /// Ends what it runs. The workers are gone.
  virtual asio::awaitable<void> stop() = 0;
};

}  // namespace cohort
