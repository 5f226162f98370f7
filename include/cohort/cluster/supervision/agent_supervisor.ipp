// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "agent_supervisor.hpp"

#include "../../core/config.hpp"

#include <memory>

#include <fmt/format.h>

namespace cohort {

COHORT_INLINE std::vector<agent_stats> agent_supervisor::stats() const {
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

COHORT_INLINE asio::awaitable<std::string> agent_supervisor::start() {
  for (const auto& each : options_.agents) {
    tasks_.start(keep(each), [this, name = each.name](std::exception_ptr failure) {
      if (failure) lose(name, failure);
    });
  }
  while (trouble_.empty() && !stopping_ && ready_ < options_.agents.size()) co_await changed_.wait();
  co_return trouble_;
}

COHORT_INLINE void agent_supervisor::announce() {
  announced_ = true;
  for (const auto& each : members_) each->tell(worker_protocol::all_ready());
}

COHORT_INLINE void agent_supervisor::begin_stop() {
  stopping_ = true;
  for (const auto& each : members_) each->cancel_wait();
  changed_.notify();
}

COHORT_INLINE asio::awaitable<void> agent_supervisor::stop() {
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

COHORT_INLINE void agent_supervisor::kill() {
  begin_stop();
  for (const auto& each : members_) each->kill();
}

COHORT_INLINE asio::awaitable<void> agent_supervisor::keep(agent_options what) {
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

COHORT_INLINE void agent_supervisor::on_exit(worker_process& who, const worker_ending& how) {
  cluster_event exited = about(who, cluster_event::kind::exited);
  exited.status = how.status;
  exited.reason = classify(how);
  if (who.trouble.empty()) who.trouble = fmt::to_string(how.status);
  enter(who, worker_state::dead);
  who.peer.close();
  emit(std::move(exited));
  if (who.ready_since) owner_.on_agent(who.agent, false);
}

COHORT_INLINE std::optional<std::chrono::milliseconds> agent_supervisor::next_pause(const worker_process& who,
                                                                                    restart_policy::history& history) {
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

COHORT_INLINE void agent_supervisor::begin_with_trouble(const std::string& name, const std::string& why) {
  if (trouble_.empty()) trouble_ = fmt::format("agent {}: not ready: {}", name, why);
  changed_.notify();
}

COHORT_INLINE void agent_supervisor::lose(const std::string& name, const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& error) {
    owner_.on_agent_lost(fmt::format("agent {}: {}", name, error.what()));
  }
}

COHORT_INLINE std::chrono::milliseconds agent_supervisor::limit_of(const worker_process& who) const {
  for (const auto& each : options_.agents) {
    if (each.name == who.agent) return each.drain_timeout + kill_after;
  }
  return drain_limit();
}

COHORT_INLINE command agent_supervisor::program_for(const worker_process& who) {
  for (const auto& each : options_.agents) {
    if (each.name == who.agent && each.command) return *each.command;
  }
  return owner_.own_program();
}

COHORT_INLINE void agent_supervisor::on_ready(const worker_ptr& who) {
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

COHORT_INLINE void agent_supervisor::on_draining(const worker_ptr& who, const worker_protocol::draining& word) {
  emit(about(*who, cluster_event::kind::draining, word.reason));
  if (who->state() != worker_state::starting && who->state() != worker_state::ready) return;
  who->trouble = word.reason;
  enter(*who, worker_state::draining);
  who->limit_state(limit_of(*who));
}

}  // namespace cohort
