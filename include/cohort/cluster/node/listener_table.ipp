// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "listener_table.hpp"

#include <cerrno>
#include <exception>
#include <system_error>
#include <utility>

#include "../../core/asio_error.hpp"
#include "../../core/config.hpp"
#include "../../core/error.hpp"
#include "../distribution/handoff.hpp"
#include "../distribution/pickers.hpp"

namespace cohort::node_cluster {

namespace detail {

/// How the connections of a listener are handed out; none if all workers are to have the same socket.
COHORT_INLINE picking picking_for(const cluster_options& options) {
  switch (options.distribution) {
    case distribution::round_robin: return pick_in_turn();
    case distribution::least_connections: return pick_least_connections();
    case distribution::by_address: return pick_by_address();
    case distribution::custom: return {options.picker, false, true};
    case distribution::shared:
    case distribution::reuse_port: break;
  }
  return {};
}

}  // namespace detail

COHORT_INLINE listener_table::listener_table(primary_context& context, listener_set& set, giver give,
                                             std::size_t max_in_flight, std::chrono::milliseconds keep)
    : context_(context),
      set_(set),
      give_(std::move(give)),
      max_in_flight_(max_in_flight),
      keep_(keep),
      tasks_(context.get_executor()) {}

COHORT_INLINE listen_answer listener_table::ask(const worker_ptr& who, const listen_query& query) {
  listen_answer answer;
  answer.key = query.key;
  try {
    entry& here = open(query);
    // The tickets that one worker has given out, all must know.
    if (here.data.is_null()) here.data = query.data;
    answer.data = here.data;
    answer.sockname = here.sockname;
    answer.shared = here.to->shared_socket();
    answer.datagrams = here.datagrams;
    here.to->ask(who);
  } catch (const std::system_error& error) {
    answer.error = errno_of(error);
    answer.trouble = error.what();
  }
  return answer;
}

COHORT_INLINE listener_table::entry& listener_table::open(const listen_query& query) {
  if (const auto at = entries_.find(query.key); at != entries_.end()) return at->second;
  if (context_.stop.is_set()) throw_error("listen: the cluster stops", ECANCELED);
  if (entries_.size() >= max_listeners) throw_error("listen: too many listeners", EMFILE);
  const bool datagrams = query.what == listen_query::kind::udp;
  const bool hands_out = !datagrams && detail::picking_for(context_.options).pick;
  opened_server server;
  auto owner = query.what == listen_query::kind::descriptor ? queue_owner::others : queue_owner::cluster;
  std::string handed_file;
  if (auto before = inherited_.extract(query.key)) {
    upgrade::listener& handed = before.mapped();
    server = adopt_server(query, std::move(handed.sockets.front()).make(context_.get_executor()));
    handed_file = std::move(handed.file);
    owner = queue_owner::others;  // until the predecessor goes
  } else {
    server = open_server(query, hands_out);
  }
  const std::string address = server.address;
  entry made;
  made.data = query.data;
  made.sockname = std::move(server.sockname);
  made.datagrams = datagrams;
  socket_file file = std::move(server.file);
  made.to = make_listener(server, query, owner);
  set_.add(text_for(query.key), address, made.to, std::move(file), std::move(handed_file));
  return entries_.emplace(query.key, std::move(made)).first->second;
}

COHORT_INLINE std::shared_ptr<node_listener> listener_table::make_listener(opened_server& server,
                                                                           const listen_query& query,
                                                                           queue_owner owner) {
  auto emptied = [this, key = query.key] { on_emptied(key); };
  picking how = detail::picking_for(context_.options);
  if (query.what == listen_query::kind::udp || !how.pick) {
    return std::make_shared<node_listener>(std::move(server.socket), owner, std::move(emptied));
  }
  handing_over by;
  by.give = [this, key = query.key](const worker_ptr& who, any_handle& socket) { return give_(who, key, socket); };
  by.max_in_flight = max_in_flight_;
  auto accepts = std::make_unique<handoff_distributor>(
      context_.get_executor(), std::move(server.socket), 0u, std::move(how), 0u,
      [&context = context_, text = server.address](std::exception_ptr failure) { context.give_up(text, failure); },
      owner, std::move(by));
  return std::make_shared<node_listener>(std::move(accepts), owner, std::move(emptied));
}

COHORT_INLINE void listener_table::close(const worker_ptr& who, const std::string& key) {
  const auto at = entries_.find(key);
  if (at == entries_.end()) return;
  const auto listener = at->second.to;
  listener->forget(who);
}

COHORT_INLINE void listener_table::leave(const worker_ptr& who) {
  for (const auto& [key, each] : entries_) each.to->forget(who);
}

COHORT_INLINE void listener_table::on_emptied(const std::string& key) {
  const auto at = entries_.find(key);
  if (at == entries_.end() || context_.stop.is_set() || std::exchange(at->second.watched, true)) return;
  tasks_.start(abandon(key), ignored("it ends this way only if cancelled"));
}

COHORT_INLINE asio::awaitable<void> listener_table::abandon(std::string key) {
  asio::steady_timer timer(context_.get_executor());
  std::shared_ptr<node_listener> listener;
  do {
    timer.expires_after(keep_);
    co_await timer.async_wait(cohort::detail::awaited);
    const auto at = entries_.find(key);
    if (at == entries_.end()) co_return;
    if (!at->second.to->empty() || context_.stop.is_set()) {
      at->second.watched = false;
      co_return;
    }
    if (set_.has_workers()) {  // else they are still to come
      listener = at->second.to;
      entries_.erase(at);
    }
  } while (!listener);
  set_.remove(text_for(key));
  co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
  listener->cancel();
  co_await listener->stop();  // its coroutines use it
}

COHORT_INLINE void listener_table::inherit(std::vector<upgrade::listener> handed) {
  const std::string prefix = text_for({});
  for (auto& each : handed) {
    if (!each.text.starts_with(prefix) || each.sockets.empty()) continue;
    std::string key = each.text.substr(prefix.size());
    inherited_.emplace(std::move(key), std::move(each));
  }
}

COHORT_INLINE asio::awaitable<void> listener_table::stop() {
  inherited_.clear();
  co_await tasks_.cancel_and_wait();
}

}  // namespace cohort::node_cluster
