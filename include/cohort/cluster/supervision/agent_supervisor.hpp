// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "../../core/asio.hpp"
#include "../../core/event.hpp"
#include "../../core/task_group.hpp"
#include "../../worker/protocol.hpp"
#include "../agent.hpp"
#include "../events.hpp"
#include "../exit_reason.hpp"
#include "message_router.hpp"
#include "../options.hpp"
#include "../restart_policy.hpp"
#include "worker_process.hpp"
#include "../stats.hpp"
#include "process_watch.hpp"

namespace cohort {

/// What the agents of a cluster want of it.
class agent_owner {
 public:
  virtual void on_agent_event(cluster_event event) = 0;
  /// An agent that was ready has ended, or another one is ready in its place.
  virtual void on_agent(const std::string& name, bool is_there) = 0;
  /// The restart policy has given up, and the cluster is to stop.
  virtual void on_agent_lost(const std::string& why) = 0;
  virtual command own_program() = 0;
  virtual message_router& router() = 0;

 protected:
  ~agent_owner() = default;
};

/// The agents of a cluster: starts each, and starts it again when it has ended.
///
/// Distinct objects: safe. Shared objects: unsafe. Must outlive stop().
class agent_supervisor final : private process_watch {
 public:
  agent_supervisor(const asio::any_io_executor& executor, const cluster_options& options, agent_owner& owner)
      : process_watch(options), owner_(owner), changed_(executor), tasks_(executor) {}

  /// The processes that there are.
  const std::vector<worker_ptr>& members() const noexcept { return members_; }

  std::vector<agent_stats> stats() const {
    std::vector<agent_stats> result;
    for (const auto& each : options_.agents) {
      agent_stats one;
      one.name = each.name;
      if (const auto count = restarts_.find(each.name); count != restarts_.end()) one.restarts = count->second;
      for (const auto& who : members_) {
        if (who->agent != each.name) continue;
        one.pid = who->pid();
        one.state = who->state();
        one.memory = who->health.memory;
        const auto since = worker_process::clock::now() - who->started();
        if (one.pid != 0) one.uptime = std::chrono::duration_cast<std::chrono::milliseconds>(since);
      }
      result.push_back(std::move(one));
    }
    return result;
  }

  /// Starts all of them, and returns when all are ready; or with what is wrong with one, or when they are to stop.
  asio::awaitable<std::string> start() {
    for (const auto& each : options_.agents) {
      tasks_.start(keep(each), [this, name = each.name](std::exception_ptr failure) {
        if (failure) lose(name, failure);
      });
    }
    while (trouble_.empty() && !stopping_ && ready_ < options_.agents.size()) co_await changed_.wait();
    co_return trouble_;
  }

  /// Everybody in the cluster is ready.
  void announce() {
    announced_ = true;
    for (const auto& each : members_) each->tell(worker_protocol::all_ready());
  }

  /// From here on none is started.
  void begin_stop() {
    stopping_ = true;
    for (const auto& each : members_) each->cancel_wait();
    changed_.notify();
  }

  /// Has them stop, and waits until they have.
  asio::awaitable<void> stop() {
    begin_stop();
    for (const auto& each : members_) {
      if (each->state() == worker_state::waiting || each->state() == worker_state::dead) continue;
      enter(*each, worker_state::stopping);
      each->asked = true;
      each->limit_state(limit_of(*each));
      each->tell(worker_protocol::drain());
    }
    co_await tasks_.wait_empty();
  }

  void kill() {
    begin_stop();
    for (const auto& each : members_) each->kill();
  }

 private:
  /// One agent's life, and that of those in its place.
  asio::awaitable<void> keep(agent_options what) {
    restart_policy::history history;
    bool was_ready = false;
    std::chrono::milliseconds pause{0};
    while (!stopping_) {
      const auto who = std::make_shared<worker_process>(tasks_.get_executor(), 0, 1, options_.delivery);
      who->agent = what.name;
      const membership here(members_, who);
      if (pause.count() > 0) co_await who->wait(pause);
      if (stopping_) co_return;
      co_await launch(who);
      if (who->peer.process()) {
        const worker_ending how = co_await attend(who);
        on_exit(*who, how);
        if (classify(how) == exit_reason::do_not_restart) {
          emit(about(*who, cluster_event::kind::not_restarted));
          if (!was_ready) begin_with_trouble(what.name, "will not be restarted");
          co_return;
        }
      }
      if (stopping_) co_return;
      if (who->ready_since) was_ready = true;
      if (!was_ready) {
        begin_with_trouble(what.name, who->trouble);
        co_return;
      }
      const auto next = next_pause(*who, history);
      if (!next) co_return;
      pause = *next;
    }
  }

  struct membership {
    membership(std::vector<worker_ptr>& all, worker_ptr who) : all_(all), who_(std::move(who)) { all_.push_back(who_); }
    membership(const membership&) = delete;
    ~membership() { std::erase(all_, who_); }

   private:
    std::vector<worker_ptr>& all_;
    worker_ptr who_;
  };

  void on_exit(worker_process& who, const worker_ending& how) {
    cluster_event exited = about(who, cluster_event::kind::exited);
    exited.status = how.status;
    exited.reason = classify(how);
    if (who.trouble.empty()) who.trouble = fmt::to_string(how.status);
    enter(who, worker_state::dead);
    who.peer.close();
    emit(std::move(exited));
    if (who.ready_since) owner_.on_agent(who.agent, false);
  }

  /// How long to wait before it is started again; none if it is not to be.
  std::optional<std::chrono::milliseconds> next_pause(const worker_process& who, restart_policy::history& history) {
    const auto now = worker_process::clock::now();
    std::optional<std::chrono::milliseconds> served;
    if (who.ready_since) options_.restart.note_ready(history);
    if (who.ready_since) served = std::chrono::duration_cast<std::chrono::milliseconds>(now - *who.ready_since);
    const double fraction = std::uniform_real_distribution<double>(0, 1)(random_);
    const auto pause = options_.restart.next(history, now, served, fraction);
    if (pause) ++restarts_[who.agent];
    if (!pause) {
      const std::string why = "too many restarts";
      if (options_.restart.on_give_up == give_up_action::shut_down) {
        owner_.on_agent_lost(fmt::format("agent {}: {}", who.agent, why));
      } else {
        emit(about(who, cluster_event::kind::degraded, why));
      }
    } else if (pause->count() > 0) {
      cluster_event event = about(who, cluster_event::kind::restarting);
      event.after = *pause;
      emit(std::move(event));
    }
    return pause;
  }

  void begin_with_trouble(const std::string& name, const std::string& why) {
    if (trouble_.empty()) trouble_ = fmt::format("agent {}: not ready: {}", name, why);
    changed_.notify();
  }

  void lose(const std::string& name, const std::exception_ptr& failure) {
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& error) {
      owner_.on_agent_lost(fmt::format("agent {}: {}", name, error.what()));
    }
  }

  std::chrono::milliseconds limit_of(const worker_process& who) const {
    for (const auto& each : options_.agents) {
      if (each.name == who.agent) return each.drain_timeout + kill_after;
    }
    return drain_limit();
  }

  void emit(cluster_event event) override { owner_.on_agent_event(std::move(event)); }
  void on_state() override { changed_.notify(); }
  void on_pong(const worker_ptr&) override {}
  void on_ended(const worker_ptr&) override {}
  void leave(const worker_ptr&) override {}
  message_router& router() override { return owner_.router(); }

  command program_for(const worker_process& who) override {
    for (const auto& each : options_.agents) {
      if (each.name == who.agent && each.command) return *each.command;
    }
    return owner_.own_program();
  }

  void on_ready(const worker_ptr& who) override {
    if (who->state() != worker_state::starting) return;
    enter(*who, worker_state::ready);
    cluster_event event = about(*who, cluster_event::kind::ready);
    event.after = std::chrono::duration_cast<std::chrono::microseconds>(worker_process::clock::now() - who->started());
    emit(std::move(event));
    if (announced_) who->tell(worker_protocol::all_ready());
    if (started_.insert(who->agent).second) {
      ++ready_;
    } else {
      owner_.on_agent(who->agent, true);
    }
  }

  void on_draining(const worker_ptr& who, const worker_protocol::draining& word) override {
    emit(about(*who, cluster_event::kind::draining, word.reason));
    if (who->state() != worker_state::starting && who->state() != worker_state::ready) return;
    who->trouble = word.reason;
    enter(*who, worker_state::draining);
    who->limit_state(limit_of(*who));
  }

  agent_owner& owner_;
  event changed_;
  task_group tasks_;  // one for each
  std::vector<worker_ptr> members_;
  std::set<std::string> started_;  // those that have been ready once
  std::map<std::string, std::uint64_t> restarts_;
  std::size_t ready_ = 0;
  std::string trouble_;
  std::minstd_rand random_{std::random_device{}()};
  bool announced_ = false;
  bool stopping_ = false;
};

}  // namespace cohort
