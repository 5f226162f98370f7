// SPDX-License-Identifier: BSL-1.0
/// A cluster whose workers are an unmodified application of Node's cluster module.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>

#include "../../ipc/node/json.hpp"
#include "../options.hpp"

namespace cohort {

/// How a primary treats its Node workers.
struct node_workers_options {
  node_workers_options() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  /// Connections that a worker is given before it has answered the first of them. 1 to 32. More would wait behind a
  /// worker that is busy while others are free.
  std::size_t max_in_flight = 4;
  /// How long a listener stays open that no worker listens at any more, while others serve: for the worker that is
  /// started in place of one that has ended. Connections wait in its queue meanwhile.
  std::chrono::milliseconds keep_listener{10'000};
  /// How long a worker may live on when it has closed its channel, before it gets SIGTERM: what is still open in it, a
  /// connection to a database for instance, would keep it for ever.
  std::chrono::milliseconds linger{5'000};
  /// Whether a worker is ready when its program begins, for one that never listens. Default: when it listens.
  bool ready_when_online = false;
  /// Called with what a worker sends by process.send(), and the worker's slot. What it throws ends that worker.
  std::function<void(unsigned slot, const json& message)> on_message;
};

/// For cluster_options::dialect: workers are Node programs that use Node's cluster module as they would under a primary
/// of Node's own, where cluster.isWorker is true.
///
///     cohort::cluster_options options;
///     options.program = cohort::command("node", "server.js");
///     options.dialect = cohort::node_workers();
///     return cohort::serve(options);
///
/// Everything else of a cluster is as for other workers: restarts, reloads, upgrades, scaling, figures, cohortctl. The
/// workers say themselves where to listen, and those that ask for the same share a listener. The distribution of the
/// cluster says who gets a connection; under distribution::shared and reuse_port all workers accept on one socket, and
/// for datagrams they always do. Least connections means here: the fewest that the worker has not answered for.
///
/// A connection is given away when the worker says that it serves it. What a worker has not taken when it dies or
/// refuses goes to another one; without any it waits.
///
/// Of a Node process no primary can know which connections are open in it: figures of open connections are 0, and those
/// served are those that were given to it. `worker_options` are not for it, but for `drain_timeout`. Messages of the
/// cluster (see messenger) do not reach it. Each process has a cluster.worker.id of its own, the first ones from 1 on;
/// COHORT_SLOT is the slot.
dialect_factory node_workers(node_workers_options options = {});

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "workers.ipp"
#endif
