// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/task_group.hpp"
#include "../reload.hpp"
#include "primary_context.hpp"
#include "worker_supervisor.hpp"

namespace cohort {

/// Replaces workers that serve by new ones: all of them in a reload, one that has reached a limit, those of all other
/// slots under restart_scope::one_for_all. The cluster owns it. One update at a time; an upgrade of the primary is one.
///
/// Distinct objects: safe. Shared objects: unsafe. Must outlive wait_idle().
class rolling_update {
 public:
  /// The right to replace workers that serve.
  class update_lock {
   public:
    explicit update_lock(rolling_update& owner) : owner_(&owner) { owner_->busy_ = true; }
    update_lock(update_lock&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)) {}
    ~update_lock();

   private:
    rolling_update* owner_;
  };

  rolling_update(primary_context& context, worker_supervisor& workers, const worker_set& all)
      : context_(context), supervisor_(workers), workers_(all), tasks_(context.get_executor()) {}

  rolling_update(const rolling_update&) = delete;
  rolling_update& operator=(const rolling_update&) = delete;

  /// Waits for the updates that are under way.
  asio::awaitable<update_lock> lock();

  /// See cluster::reload().
  asio::awaitable<reload_result> reload(std::string why);

  /// Replaces one worker, because it has reached a limit.
  void recycle(worker_ptr who, const char* reason);

  /// Replaces the workers of all slots but one; those that end meanwhile belong to the same misfortune.
  void renew_others(unsigned slot);

  /// Waits until nothing is under way. The cluster has stopped.
  asio::awaitable<void> wait_idle();

  std::uint64_t reloads() const noexcept { return reloads_; }

  /// The reason of an update that ends because the cluster stops.
  static constexpr const char* stopping_text = "the cluster stops";

 private:
  asio::awaitable<void> recycle_one(worker_ptr who, const char* reason);
  asio::awaitable<void> renew_all_but(unsigned slot);

  /// Starts new workers for these slots, so many at a time as reload_options say, and has the old ones drain when they
  /// are ready.
  asio::awaitable<void> renew(std::vector<unsigned> numbers, reload_result& result);

  /// The same for the slots of one batch.
  asio::awaitable<void> renew_batch(std::vector<unsigned> batch, reload_result& result);

  /// Kills those that have been draining for the longest time, if a reload finds too many of them.
  void limit_draining();

  /// Notes the first new worker that will not get ready.
  static bool failed_one(const std::vector<worker_ptr>& fresh, reload_result& result);
  static bool all_ready(const std::vector<worker_ptr>& fresh);

  primary_context& context_;
  worker_supervisor& supervisor_;
  const worker_set& workers_;
  task_group tasks_;
  std::uint64_t reloads_ = 0;
  bool busy_ = false;
  bool renews_others_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "rolling_update.ipp"
#endif
