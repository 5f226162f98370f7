// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../distribution/distributor.hpp"
#include "../distribution/handoff.hpp"

namespace cohort::node_cluster {

/// One listener that workers have asked for, and the workers that serve it: those of the cluster that are ready, and
/// have asked. The primary accepts and hands out, or all have the same socket. The listener_set owns it.
///
/// Distinct objects: safe. Shared objects: unsafe.
class node_listener final : public distributor {
 public:
  /// `emptied` is called when a worker has gone and no other one has asked.
  node_listener(std::unique_ptr<handoff_distributor> accepts, queue_owner owner, std::function<void()> emptied);
  node_listener(descriptor shared, queue_owner owner, std::function<void()> emptied);

  /// A worker listens here, or does not any more.
  void ask(const worker_ptr& who);
  void forget(const worker_ptr& who);

  /// Whether nobody listens.
  bool empty() const noexcept { return asked_.empty(); }

  /// The socket for all; -1 if the primary accepts, or does not listen any more.
  int shared_socket() const noexcept { return shared_.get(); }

  void join(const worker_ptr& who) override;
  void leave(const worker_ptr& who) override;
  asio::awaitable<void> stop() override;
  void cancel() override;
  bool is_overdue(const worker_process& who, std::chrono::milliseconds limit) const override;
  void on_ended() override;
  std::vector<int> sockets() const override;
  bool workers_accept() const noexcept override { return false; }  // a Node worker does not empty the queue at its end

 private:
  /// While the cluster stops: what waits is dropped if all workers that are there listen elsewhere.
  void drop_what_nobody_takes();

  std::unique_ptr<handoff_distributor> accepts_;
  descriptor shared_;
  std::set<worker_ptr> asked_;
  std::set<worker_ptr> joined_;
  std::function<void()> emptied_;
  bool stopping_ = false;
};

}  // namespace cohort::node_cluster

#ifndef COHORT_SEPARATE_COMPILATION
#include "node_listener.ipp"
#endif
