// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "cluster.hpp"

#include "../core/config.hpp"
#include "supervision/primary.hpp"

namespace cohort {

COHORT_INLINE cluster::cluster(asio::any_io_executor executor, cluster_options options)
    : primary_(std::make_shared<primary>(executor, std::move(options))) {}

COHORT_INLINE cluster::~cluster() = default;

COHORT_INLINE asio::any_io_executor cluster::get_executor() { return primary_->context_.get_executor(); }

COHORT_INLINE asio::awaitable<int> cluster::run(upgrade::predecessor* predecessor) {
  return keep(primary_, primary_->run(predecessor));
}

COHORT_INLINE asio::awaitable<int> cluster::keep(std::shared_ptr<primary>, asio::awaitable<int> running) {
  const int status = co_await std::move(running);
  co_return status;
}

COHORT_INLINE void cluster::stop(const std::string& why) { primary_->stop(why); }

COHORT_INLINE void cluster::kill(const std::string& why) { primary_->kill(why); }

COHORT_INLINE bool cluster::is_stopping() const noexcept { return primary_->context_.leaving; }

COHORT_INLINE bool cluster::is_lame_duck() const noexcept {
  return primary_->context_.leaving && !primary_->context_.stop.is_set();
}

COHORT_INLINE asio::awaitable<void> cluster::all_ready() { return primary_->all_ready_.wait(); }

COHORT_INLINE asio::awaitable<reload_result> cluster::reload(std::string why) {
  return primary_->updates_.reload(std::move(why));
}

COHORT_INLINE asio::awaitable<upgrade_result> cluster::upgrade(
    std::vector<std::pair<std::string, std::string>> environment) {
  return primary_->upgrade(std::move(environment));
}

COHORT_INLINE void cluster::scale(unsigned workers) { primary_->scale(workers); }

COHORT_INLINE unsigned cluster::size() const noexcept { return primary_->worker_supervisor_.size(); }

COHORT_INLINE bool cluster::kill_worker(unsigned slot) { return primary_->worker_supervisor_.kill_worker(slot); }

COHORT_INLINE void cluster::reopen() { primary_->reopen(); }

COHORT_INLINE message_endpoint& cluster::messages() noexcept { return primary_->router_.endpoint(); }

COHORT_INLINE cluster_stats cluster::stats() const { return primary_->stats(); }

COHORT_INLINE asio::awaitable<std::optional<cluster_event>> cluster::next_event() { return primary_->events_.pop(); }

}  // namespace cohort
