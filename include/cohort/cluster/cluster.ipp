// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "cluster.hpp"

#include "../core/config.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <set>
#include <system_error>

#include <signal.h>

#include <fmt/format.h>

#include "../core/task_group.hpp"
#include "../core/timeout.hpp"
#include "../schedule/planner.hpp"
#include "../schedule/runner.hpp"
#include "../worker/protocol.hpp"
#include "distribution/handoff.hpp"
#include "distribution/shared_listener.hpp"
#include "supervision/schedule_executor.hpp"

namespace cohort {

COHORT_INLINE asio::awaitable<int> cluster::run(upgrade::predecessor* predecessor) {
  const finished_guard finished{*this};
  check_agents();
  (void)schedule_planner(schedules(), schedule::time_point::clock::now());  // throws for one that is wrong
  wanted_ = options_.worker_count();
  begun_ = worker_process::clock::now();
  std::vector<upgrade::listener> handed;
  if (predecessor != nullptr) {
    handed = co_await predecessor->listeners();
    generation_ = last_generation_ = predecessor->generation() + 1;
    if (predecessor->workers() != 0) wanted_ = predecessor->workers();
  }
  for (auto& each : open_listeners(options_, std::move(handed))) distribute(std::move(each), predecessor != nullptr);
  if (wanted_ != options_.worker_count()) resize(wanted_);
  const std::string trouble = co_await agents_.start();
  if (!trouble.empty()) give_up(trouble, nullptr);
  chores_.start(begin_together(predecessor), [](std::exception_ptr) {});
  for (unsigned number = 1; number <= wanted_ && !stop_.is_set(); ++number) start(number, generation_, at_once);
  drop_what_nobody_takes();

  co_await stop_.wait();
  for (auto& each : listeners_) each.file.remove();
  task_group closing(get_executor());
  for (const auto& each : listeners_) closing.start(each.to->stop(), [](std::exception_ptr) {});
  try {
    co_await with_timeout(closing.wait_empty(), options_.worker.drain_timeout);
  } catch (const std::system_error&) {
    // Time is up for what no worker takes.
    for (const auto& each : listeners_) each.to->cancel();
  }
  co_await closing.wait_empty();
  for (const auto& each : workers_) ask_to_stop(*each);
  co_await tasks_.wait_empty();
  co_await agents_.stop();
  co_await chores_.wait_empty();
  while (renewing_) co_await changed_.wait();  // an upgrade's successor is not to be left behind
  co_return gave_up_ ? 1 : 0;
}

COHORT_INLINE void cluster::stop(const std::string& why) {
  if (stop_.is_set()) return;
  emit(cluster_event(cluster_event::kind::stopping, 0, 0, why));
  if (successor_ != nullptr) successor_->signal(SIGTERM);
  begin_stop();
  agents_.begin_stop();
}

COHORT_INLINE void cluster::kill(const std::string& why) {
  stop(why);
  killed_ = true;
  for (const auto& each : listeners_) each.to->cancel();
  for (const auto& each : workers_) each->kill();
  agents_.kill();
}

COHORT_INLINE asio::awaitable<upgrade_result> cluster::upgrade(
    std::vector<std::pair<std::string, std::string>> environment) {
  upgrade_result result;
  const update_lock mine = co_await lock_updates();
  if (stop_.is_set()) result.reason = stopping_text;
  if (::getpid() == 1) result.reason = "process 1 cannot be replaced";
  peer<upgrade::protocol> successor;
  if (result.success()) {
    try {
      auto program = program_.on_disk().start();
      program.die_with_parent(false).process_group(process_group::inherit).env(upgrade::variable, "1");
      for (const auto& [name, value] : environment) program.env(name, value);
      successor = co_await spawn<upgrade::protocol>(std::move(program));
      result.pid = successor.pid();
    } catch (const std::system_error& error) {
      if (error.code() == asio::error::operation_aborted) throw;
      result.reason = error.what();
    }
  }
  if (result.success()) {
    emit(cluster_event(cluster_event::kind::upgrading, 0, result.pid));
    const borrowed_pointer known(successor_, successor);
    result.reason = co_await hand_over_to(successor);
  }
  if (result.success()) {
    successor.process().detach();
    emit(cluster_event(cluster_event::kind::upgraded, 0, result.pid));
    stop("upgraded");
    co_return result;
  }
  if (successor.process()) {
    const exit_status status = co_await end_successor(successor);
    result.reason += fmt::format(": primary {} {}", result.pid, status);
  }
  emit(cluster_event(cluster_event::kind::upgrade_failed, 0, result.pid, result.reason));
  co_return result;
}

COHORT_INLINE void cluster::reopen() {
  for (const auto& each : workers_) each->tell(worker_protocol::reopen());
  for (const auto& each : agents_.members()) each->tell(worker_protocol::reopen());
  if (options_.on_reopen) options_.on_reopen();
}

COHORT_INLINE cluster_stats cluster::stats() const {
  const auto now = worker_process::clock::now();
  const auto since = [now](worker_process::clock::time_point then) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(now - then);
  };
  cluster_stats result;
  result.generation = generation_;
  result.wanted = wanted_;
  result.restarts = restarts_;
  result.reloads = reloads_;
  result.uptime = since(begun_);
  result.stopping = stop_.is_set();
  for (const auto& each : listeners_) {
    listener_stats one;
    one.address = each.address;
    for (const int fd : each.to->sockets()) one.queue = queue_of(fd, one.queue);
    result.listeners.push_back(std::move(one));
  }
  for (const auto& each : workers_) {
    worker_stats one;
    one.slot = each->number();
    one.generation = each->generation();
    one.pid = each->pid();
    one.state = each->state();
    if (one.state != worker_state::waiting) one.uptime = since(each->started());
    one.leased = each->open();
    one.open = each->health.open;
    one.served = each->health.served;
    one.memory = each->health.memory;
    one.lag = std::chrono::duration_cast<std::chrono::microseconds>(each->lag);
    if (each->is_serving()) ++result.ready;
    result.workers.push_back(one);
  }
  std::sort(result.workers.begin(), result.workers.end(), [](const auto& a, const auto& b) {
    return a.slot != b.slot ? a.slot < b.slot : a.generation < b.generation;
  });
  for (auto [number, past] : past_) {
    past.slot = number;  // a slot whose workers could not be started has no exit that would have noted it
    past.degraded = past.degraded && number <= wanted_;
    result.slots.push_back(std::move(past));
  }
  result.agents = agents_.stats();
  return result;
}

COHORT_INLINE void cluster::emit(cluster_event event) {
  while (!events_.try_push(std::move(event)) && !events_.is_closed()) (void)events_.try_pop();
}

COHORT_INLINE void cluster::distribute(opened_listener opened, bool borrowed) {
  listener_state mine;
  mine.text = opened.text;
  mine.address = opened.address;
  mine.inherited = opened.inherited;
  mine.file = std::move(opened.file);
  mine.handed_file = opened.handed_file;
  const auto number = static_cast<std::uint32_t>(listeners_.size());
  const auto owner = opened.inherited || borrowed ? queue_owner::others : queue_owner::cluster;
  auto& sockets = opened.sockets;
  const auto lease = [&](picking how) {
    mine.to = std::make_unique<handoff_distributor>(
        get_executor(), std::move(sockets.front()), number, std::move(how), options_.worker.max_connections,
        [this, text = mine.address](std::exception_ptr failure) { give_up(text, failure); }, owner);
  };
  switch (opened.distribution) {
    case distribution::round_robin: lease(pick_in_turn()); break;
    case distribution::least_connections: lease(pick_least_connections()); break;
    case distribution::by_address: lease(pick_by_address()); break;
    case distribution::custom: lease({options_.picker, false, true}); break;
    case distribution::shared:
      mine.to = std::make_unique<shared_distributor>(get_executor(), std::move(sockets.front()), number, owner);
      break;
    case distribution::reuse_port:
      mine.to = std::make_unique<reuse_port_distributor>(get_executor(), std::move(sockets), number,
                                                         std::move(opened.open_one_more), owner);
      break;
  }
  emit(cluster_event(cluster_event::kind::listening, 0, 0, mine.address));
  listeners_.push_back(std::move(mine));
}

COHORT_INLINE asio::awaitable<void> cluster::begin_together(upgrade::predecessor* predecessor) {
  while (!stop_.is_set() && serving() < static_cast<std::ptrdiff_t>(wanted_)) co_await changed_.wait();
  if (stop_.is_set()) co_return;
  all_ready_.set();
  for (const auto& each : workers_) each->tell(worker_protocol::all_ready());
  agents_.announce();
  if (predecessor != nullptr) co_await succeed(*predecessor);
  if (options_.schedules.empty()) co_return;
  schedule_planner planner(schedules(), schedule::time_point::clock::now());
  schedule_executor place(workers_, agents_.members(), [this](const schedule_result& result) {
    cluster_event event(cluster_event::kind::schedule_ran, result.worker);
    event.run = std::make_shared<const schedule_result>(result);
    emit(std::move(event));
  });
  wall_clock clock;
  co_await run_schedules(planner, clock, place, stop_);
}

COHORT_INLINE asio::awaitable<void> cluster::succeed(upgrade::predecessor& predecessor) {
  std::vector<std::string> texts;
  for (auto& each : listeners_) {
    texts.push_back(each.text);
    if (!each.inherited) each.to->own(queue_owner::cluster);
    if (!each.handed_file.empty()) each.file = socket_file(each.handed_file);
  }
  co_await predecessor.dismiss(std::move(texts));
}

COHORT_INLINE asio::awaitable<exit_status> cluster::end_successor(peer<upgrade::protocol>& successor) {
  exit_status status;
  bool ended = true;
  successor.close();
  try {
    status = co_await with_timeout(successor.wait(), std::chrono::seconds(1));
  } catch (const std::system_error& error) {
    if (error.code() == asio::error::operation_aborted) throw;
    ended = false;
  }
  if (!ended) status = co_await successor.stop();
  co_return status;
}

COHORT_INLINE asio::awaitable<std::string> cluster::hand_over_to(peer<upgrade::protocol>& successor) {
  try {
    for (const auto& each : listeners_) {
      upgrade::listener what;
      what.text = each.text;
      what.address = each.address;
      what.file = each.file.path();
      what.inherited = each.inherited;
      co_await upgrade::hand_over(successor, std::move(what), each.to->sockets());
    }
    upgrade::begin last;
    last.generation = generation_;
    if (wanted_ != options_.worker_count()) last.workers = wanted_;
    co_await successor.send(last);
    const auto word = co_await with_timeout(successor.receive(), options_.start_timeout + kill_after);
    if (word) {
      for (auto& each : listeners_) {
        if (std::find(word->texts.begin(), word->texts.end(), each.text) == word->texts.end()) continue;
        each.to->own(queue_owner::others);
        each.file.release();
      }
      co_return std::string();
    }
  } catch (const std::system_error& error) {
    if (error.code() == asio::error::operation_aborted) throw;
    if (error.code() != errc::peer_closed) co_return error.what();
  }
  co_return stop_.is_set() ? stopping_text : std::string("it did not get ready");
}

COHORT_INLINE std::vector<schedule> cluster::schedules() const {
  std::vector<schedule> result;
  for (const auto& each : options_.schedules) result.push_back(each.when);
  return result;
}

COHORT_INLINE void cluster::check_agents() const {
  std::set<std::string> names;
  for (const auto& each : options_.agents) {
    if (each.name.empty()) throw_error("agent: an empty name", errc::invalid_option);
    if (!names.insert(each.name).second) {
      throw_error(fmt::format("agent {}: the name is used twice", each.name), errc::invalid_option);
    }
    if (options_.program && !each.command) {
      throw_error(fmt::format("agent {}: the cluster's program is one of workers alone", each.name),
                  errc::invalid_option);
    }
  }
  for (const auto& each : schedules()) {
    if (each.place() != schedule_place::agent) continue;
    if (each.agent().empty() ? names.empty() : !names.contains(each.agent())) {
      throw_error(fmt::format("schedule \"{}\": there is no agent {}", each.name(), each.agent()),
                  errc::invalid_option);
    }
  }
}

COHORT_INLINE void cluster::replace_slow(worker_process& who) {
  fail(who, "too slow for its messages");
  who.tell(worker_protocol::drain());
}

COHORT_INLINE void cluster::on_agent(const std::string& name, bool is_there) {
  if (stop_.is_set()) return;
  if (is_there) {
    tell_workers(agent_back{name});
  } else {
    tell_workers(agent_gone{name});
  }
}

COHORT_INLINE asio::awaitable<void> cluster::send_to_workers(std::uint64_t type, std::string body) {
  co_await router_.endpoint().send(recipient::workers(), type, std::move(body));
}

COHORT_INLINE void cluster::join(const worker_ptr& who) {
  if (all_ready_.is_set()) who->tell(worker_protocol::all_ready());
  for (const auto& each : listeners_) each.to->join(who);
}

COHORT_INLINE void cluster::leave(const worker_ptr& who) {
  for (const auto& each : listeners_) each.to->leave(who);
}

COHORT_INLINE void cluster::on_ended(const worker_ptr&) {
  for (const auto& each : listeners_) each.to->on_ended();
}

COHORT_INLINE void cluster::nobody_takes() {
  for (const auto& each : listeners_) each.to->cancel();
}

COHORT_INLINE void cluster::resize(unsigned workers) {
  if (successor_ != nullptr) {  // it has been told how many already
    throw_error("an upgrade is under way", errc::invalid_option);
  }
  for (const auto& each : listeners_) each.to->resize(workers);
}

COHORT_INLINE bool cluster::workers_accept() const {
  return std::any_of(listeners_.begin(), listeners_.end(), [](const auto& each) { return each.to->workers_accept(); });
}

}  // namespace cohort
