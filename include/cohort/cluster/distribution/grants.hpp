// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/task_group.hpp"
#include "../supervision/worker_process.hpp"

namespace cohort {

/// Copies of one listener that workers have, so that they accept there themselves: gives them, and takes them back. A
/// distributor of distribution::shared or distribution::reuse_port owns it.
///
/// Distinct objects: safe. Shared objects: unsafe. Must outlive tasks().
class listener_grants {
 public:
  /// `number`: the listener's.
  listener_grants(const asio::any_io_executor& executor, std::uint32_t number) : tasks_(executor), number_(number) {}

  /// What is under way.
  task_group& tasks() noexcept { return tasks_; }

  /// Gives a worker a copy of `socket`, which must outlive that; `done(bool)` says whether the worker has it. Returns
  /// the number of the grant.
  std::uint32_t give(const worker_ptr& who, const descriptor& socket, std::chrono::milliseconds limit,
                     std::function<void(bool)> done);

  void take_back(const worker_ptr& who, std::uint32_t grant);

  /// Waits for the grants that are under way, a second at most: what waits in such a listener has perhaps no other
  /// process to accept it.
  asio::awaitable<void> finish();

 private:
  asio::awaitable<void> send(worker_ptr who, const descriptor& socket, std::uint32_t grant,
                             std::chrono::milliseconds limit, std::function<void(bool)> done);

  task_group tasks_;
  std::uint32_t number_;
  std::uint32_t last_ = 0;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "grants.ipp"
#endif
