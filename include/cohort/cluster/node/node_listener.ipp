// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "node_listener.hpp"

#include <utility>

#include <sys/socket.h>

#include "../../core/config.hpp"
#include "../../ipc/handle.hpp"
#include "../../net/acceptor.hpp"

namespace cohort::node_cluster {

COHORT_INLINE node_listener::node_listener(std::unique_ptr<handoff_distributor> accepts, queue_owner owner,
                                           std::function<void()> emptied)
    : distributor(owner), accepts_(std::move(accepts)), emptied_(std::move(emptied)) {}

COHORT_INLINE node_listener::node_listener(descriptor shared, queue_owner owner, std::function<void()> emptied)
    : distributor(owner), shared_(std::move(shared)), emptied_(std::move(emptied)) {}

COHORT_INLINE void node_listener::ask(const worker_ptr& who) {
  const bool first = asked_.insert(who).second;
  if (first && accepts_ && joined_.contains(who)) accepts_->join(who);
}

COHORT_INLINE void node_listener::forget(const worker_ptr& who) {
  if (asked_.erase(who) == 0) return;
  if (accepts_) accepts_->leave(who);
  drop_what_nobody_takes();
  if (asked_.empty()) emptied_();
}

COHORT_INLINE void node_listener::drop_what_nobody_takes() {
  if (stopping_ && accepts_ && asked_.empty() && !joined_.empty()) accepts_->cancel();
}

COHORT_INLINE void node_listener::join(const worker_ptr& who) {
  const bool first = joined_.insert(who).second;
  if (first && accepts_ && asked_.contains(who)) accepts_->join(who);
}

COHORT_INLINE void node_listener::leave(const worker_ptr& who) {
  joined_.erase(who);
  forget(who);
}

COHORT_INLINE asio::awaitable<void> node_listener::stop() {
  stopping_ = true;
  if (accepts_) {
    accepts_->own(owner_);
    drop_what_nobody_takes();
    co_await accepts_->stop();
    co_return;
  }
  if (owner_ == queue_owner::cluster && shared_) {
    // The workers, which are not told to go yet, take what has got through the handshake. A Node process would take the
    // end of a local socket's queue for an error that it dies of; its file is gone, and nobody new comes.
    if (cohort::detail::domain_of(shared_.get()) != AF_UNIX) stop_handshakes(shared_.get());
    co_await last_call();
  }
  shared_.reset();
}

COHORT_INLINE void node_listener::cancel() {
  if (accepts_) accepts_->cancel();
}

COHORT_INLINE bool node_listener::is_overdue(const worker_process& who, std::chrono::milliseconds limit) const {
  return accepts_ && accepts_->is_overdue(who, limit);
}

COHORT_INLINE void node_listener::on_ended() {
  if (accepts_) accepts_->on_ended();
}

COHORT_INLINE std::vector<int> node_listener::sockets() const {
  if (accepts_) return accepts_->sockets();
  return std::vector<int>(shared_ ? 1 : 0, shared_.get());
}

}  // namespace cohort::node_cluster
