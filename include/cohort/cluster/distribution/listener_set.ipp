// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "listener_set.hpp"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "../../core/asio_error.hpp"
#include "../../core/config.hpp"
#include "../../core/error.hpp"
#include "../../core/task_group.hpp"
#include "../../core/timeout.hpp"
#include "../../net/accept_queue.hpp"
#include "../supervision/worker_dialect.hpp"
#include "../upgrade/predecessor.hpp"
#include "handoff.hpp"
#include "pickers.hpp"
#include "reuse_port.hpp"
#include "shared_listener.hpp"

namespace cohort {

COHORT_INLINE void listener_set::open(std::vector<upgrade::listener> handed, bool borrowed) {
  if (context_.dialect != nullptr) {
    if (!context_.options.listen.empty()) {
      throw_error(
          fmt::format("listen {}: the workers say themselves where they listen", context_.options.listen.front().text),
          errc::invalid_option);
    }
    context_.dialect->inherit(std::move(handed));
    return;
  }
  auto opened = open_listeners(context_.options, std::move(handed));
  entries_.reserve(opened.size());
  for (auto& each : opened) {
    const auto owner = each.inherited || borrowed ? queue_owner::others : queue_owner::cluster;
    entry mine;
    mine.text = each.text;
    mine.address = each.address;
    mine.inherited = each.inherited;
    mine.file = std::move(each.file);
    mine.handed_file = each.handed_file;
    mine.to = distribute(each, owner);
    entries_.push_back(std::move(mine));  // has its room: a distributor is at work from here on
    context_.emit(cluster_event(cluster_event::kind::listening, 0, 0, entries_.back().address));
  }
}

COHORT_INLINE std::shared_ptr<distributor> listener_set::distribute(opened_listener& opened, queue_owner owner) {
  const auto number = static_cast<std::uint32_t>(entries_.size());
  auto& sockets = opened.sockets;
  const auto hand_off = [&](picking how) {
    return std::make_shared<handoff_distributor>(
        context_.get_executor(), std::move(sockets.front()), number, std::move(how),
        context_.options.worker.max_connections,
        [&context = context_, text = opened.address](std::exception_ptr failure) { context.give_up(text, failure); },
        owner);
  };
  switch (opened.distribution) {
    case distribution::round_robin: return hand_off(pick_in_turn());
    case distribution::least_connections: return hand_off(pick_least_connections());
    case distribution::by_address: return hand_off(pick_by_address());
    case distribution::custom: return hand_off({context_.options.picker, false, true});
    case distribution::shared: break;
    case distribution::reuse_port:
      return std::make_shared<reuse_port_distributor>(context_.get_executor(), std::move(sockets), number,
                                                      std::move(opened.open_one_more), owner);
  }
  return std::make_shared<shared_distributor>(context_.get_executor(), std::move(sockets.front()), number, owner);
}

COHORT_INLINE void listener_set::join(const worker_ptr& who) {
  joined_.push_back(who);
  for (const auto& each : entries_) each.to->join(who);
}

COHORT_INLINE void listener_set::leave(const worker_ptr& who) {
  std::erase(joined_, who);
  for (const auto& each : entries_) each.to->leave(who);
}

COHORT_INLINE void listener_set::on_ended() {
  for (const auto& each : entries_) each.to->on_ended();
}

COHORT_INLINE bool listener_set::is_overdue(const worker_process& who) const {
  const auto limit = context_.options.limits.lease_timeout;
  const auto overdue = [&](const auto& each) { return each.to->is_overdue(who, limit); };
  return std::any_of(entries_.begin(), entries_.end(), overdue);
}

COHORT_INLINE void listener_set::cancel() {
  for (const auto& each : entries_) each.to->cancel();
}

COHORT_INLINE void listener_set::resize(unsigned workers) {
  for (const auto& each : entries_) each.to->resize(workers);
}

COHORT_INLINE bool listener_set::workers_accept() const {
  return std::any_of(entries_.begin(), entries_.end(), [](const auto& each) { return each.to->workers_accept(); });
}

COHORT_INLINE asio::awaitable<void> listener_set::stop() {
  for (auto& each : entries_) each.file.remove();
  task_group closing(context_.get_executor());
  constexpr ignored cancelled("it ends this way only if cancelled");
  std::exception_ptr failure;
  try {
    for (const auto& each : entries_) closing.start(stop_one(each.to), cancelled);
    co_await with_timeout(closing.wait_empty(), context_.options.worker.drain_timeout);
  } catch (...) {
    if (!detail::system_error_in(std::current_exception())) failure = std::current_exception();
    cancel();  // time is up for what no worker takes
  }
  co_await closing.wait_empty();
  if (failure) std::rethrow_exception(failure);
}

COHORT_INLINE asio::awaitable<void> listener_set::stop_one(std::shared_ptr<distributor> which) {
  co_await which->stop();
}

COHORT_INLINE void listener_set::add(std::string text, std::string address, std::shared_ptr<distributor> to,
                                     socket_file file, std::string handed_file) {
  entry mine;
  mine.text = std::move(text);
  mine.address = std::move(address);
  mine.file = std::move(file);
  mine.handed_file = std::move(handed_file);
  mine.to = std::move(to);
  for (const auto& each : joined_) mine.to->join(each);
  context_.emit(cluster_event(cluster_event::kind::listening, 0, 0, mine.address));
  entries_.push_back(std::move(mine));
}

COHORT_INLINE void listener_set::remove(const std::string& text) {
  std::erase_if(entries_, [&](const entry& each) { return each.text == text; });
}

COHORT_INLINE asio::awaitable<void> listener_set::hand_over(peer<upgrade::protocol>& successor) {
  std::vector<std::pair<upgrade::listener, std::shared_ptr<distributor>>> all;  // entries may be added meanwhile
  for (const auto& each : entries_) {
    upgrade::listener what;
    what.text = each.text;
    what.address = each.address;
    what.file = each.file.path();
    what.inherited = each.inherited;
    all.emplace_back(std::move(what), each.to);
  }
  for (auto& [what, from] : all) co_await upgrade::hand_over(successor, std::move(what), from->sockets());
}

COHORT_INLINE void listener_set::release(const std::vector<std::string>& texts) {
  for (auto& each : entries_) {
    if (std::find(texts.begin(), texts.end(), each.text) == texts.end()) continue;
    each.to->own(queue_owner::others);
    each.file.release();
  }
}

COHORT_INLINE std::vector<std::string> listener_set::take_over() {
  std::vector<std::string> texts;
  for (auto& each : entries_) {
    texts.push_back(each.text);
    if (!each.inherited) each.to->own(queue_owner::cluster);
    if (!each.handed_file.empty()) each.file = socket_file(std::exchange(each.handed_file, {}));
  }
  if (context_.dialect != nullptr) context_.dialect->drop_inherited();
  return texts;
}

COHORT_INLINE std::vector<listener_stats> listener_set::stats() const {
  std::vector<listener_stats> result;
  for (const auto& each : entries_) {
    listener_stats one;
    one.address = each.address;
    for (const int fd : each.to->sockets()) one.queue = queue_of(fd, one.queue);
    result.push_back(std::move(one));
  }
  return result;
}

}  // namespace cohort
