// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "workers.hpp"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "../../core/config.hpp"
#include "../../core/error.hpp"
#include "../../ipc/channel_pair.hpp"
#include "../../ipc/node/peer.hpp"
#include "../supervision/worker_dialect.hpp"
#include "listener_table.hpp"
#include "worker_session.hpp"

namespace cohort {

namespace node_cluster {

/// The dialect of node_workers().
class workers_dialect final : public worker_dialect {
 public:
  workers_dialect(primary_context& context, listener_set& listeners, node_workers_options options)
      : context_(context),
        options_(std::move(options)),
        listeners_(
            context, listeners,
            [this](const worker_ptr& who, const std::string& key, any_handle& to_give) {
              return give(who, key, to_give);
            },
            options_.max_in_flight, options_.keep_listener),
        tasks_(context.get_executor()) {}

  asio::awaitable<peer<worker_protocol>> start(worker_ptr who, command program, channel_options channel) override;
  void inherit(std::vector<upgrade::listener> handed) override { listeners_.inherit(std::move(handed)); }
  void drop_inherited() override { listeners_.drop_inherited(); }
  asio::awaitable<void> stop() override;

 private:
  asio::awaitable<bool> give(const worker_ptr& who, const std::string& key, any_handle& socket);

  primary_context& context_;
  const node_workers_options options_;
  listener_table listeners_;
  std::map<const worker_process*, std::shared_ptr<worker_session>> sessions_;
  task_group tasks_;  // one for each session
  unsigned last_id_ = 0;
};

COHORT_INLINE asio::awaitable<peer<worker_protocol>> workers_dialect::start(worker_ptr who, command program,
                                                                            channel_options channel) {
  const auto executor = context_.get_executor();
  node_options wire;
  wire.cluster = true;
  const std::string id = std::to_string(++last_id_);
  auto started = co_await cohort::detail::spawn_with_node_channel(std::move(program), wire.serialization, id);
  node_link to_worker(executor, std::move(started.second), wire);
  cohort::detail::end_with(started.first, to_worker);
  auto ends = make_channel_pair();
  const auto session = std::make_shared<worker_session>(
      context_, listeners_, options_, who, std::move(to_worker),
      worker_session::primary_channel(executor, std::move(ends.second), channel));
  sessions_[who.get()] = session;
  tasks_.start(session->run(), [this, who](const std::exception_ptr&) { sessions_.erase(who.get()); });
  cohort::channel<worker_protocol::to_child, worker_protocol::to_parent> mine(executor, std::move(ends.first), channel);
  co_return peer<worker_protocol>(std::move(started.first), std::move(mine));
}

COHORT_INLINE asio::awaitable<bool> workers_dialect::give(const worker_ptr& who, const std::string& key,
                                                          any_handle& socket) {
  const auto at = sessions_.find(who.get());
  if (at == sessions_.end()) throw_error("newconn", errc::peer_closed);
  return at->second->give(key, socket);
}

COHORT_INLINE asio::awaitable<void> workers_dialect::stop() {
  co_await tasks_.cancel_and_wait();
  co_await listeners_.stop();
}

}  // namespace node_cluster

COHORT_INLINE dialect_factory node_workers(node_workers_options options) {
  return [options = std::move(options)](primary_context& context, listener_set& listeners) {
    return std::make_shared<node_cluster::workers_dialect>(context, listeners, options);
  };
}

}  // namespace cohort
