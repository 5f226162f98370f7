// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "agent_supervisor.hpp"

#include <algorithm>
#include <exception>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "../../core/config.hpp"
#include "../../core/scope.hpp"
#include "../../core/text_of.hpp"

namespace cohort {

COHORT_INLINE agent_supervisor::agent_supervisor(primary_context& context, worker_set& agents, message_router& router,
                                                 agent_hooks hooks)
    : context_(context),
      agents_(agents),
      hooks_(std::move(hooks)),
      watch_(context, router, *this),
      tasks_(context.get_executor()) {}

COHORT_INLINE asio::awaitable<std::string> agent_supervisor::start() {
  const auto& wanted = context_.options.agents;
  for (const auto& each : wanted) {
    places_.emplace(each.name, place{restarting(context_)});
    tasks_.start(keep(each), [this, name = each.name](std::exception_ptr failure) {
      if (failure) context_.give_up(fmt::format("agent {}: {}", name, detail::text_of(failure)), nullptr);
    });
  }
  while (trouble_.empty() && !context_.stop.is_set() && !all_were_ready()) co_await context_.changed.wait();
  co_return trouble_;
}

COHORT_INLINE bool agent_supervisor::all_were_ready() const {
  return std::all_of(places_.begin(), places_.end(), [](const auto& each) { return each.second.was_ready; });
}

COHORT_INLINE asio::awaitable<void> agent_supervisor::keep(agent_options what) {
  place& here = places_.at(what.name);
  std::chrono::milliseconds pause{0};
  while (!context_.stop.is_set()) {
    const auto who = std::make_shared<worker_process>(tasks_.get_executor(), 0, 1, context_.options.delivery);
    who->agent = what.name;
    agents_.add(who);
    const detail::on_exit leaves([this, &who] {
      agents_.remove(who);
      who->cancel_wait();  // if it ends in the middle of something that has a limit
    });
    if (pause.count() > 0) co_await who->wait(pause);
    if (context_.stop.is_set()) co_return;
    co_await watch_.launch(who, program_for(what));
    if (who->peer.process()) {
      const worker_ending how = co_await watch_.attend(who);
      const exit_reason reason = here.life.on_exit(*who, how);
      if (who->ready_since) hooks_.changed(who->agent, false);
      if (reason == exit_reason::do_not_restart) {
        context_.emit(event_about(*who, cluster_event::kind::not_restarted));
        if (!here.was_ready) begin_with_trouble(what.name, "will not be restarted");
        co_return;
      }
    }
    if (context_.stop.is_set()) co_return;
    if (!here.was_ready) {
      begin_with_trouble(what.name, who->end.trouble);
      co_return;
    }
    const auto next = next_pause(*who, here);
    if (!next) co_return;
    pause = *next;
  }
}

COHORT_INLINE std::optional<std::chrono::milliseconds> agent_supervisor::next_pause(const worker_process& who,
                                                                                    place& here) {
  const auto pause = here.life.next_pause(who);
  if (pause) {
    ++here.restarts;
  } else if (context_.options.restart.on_give_up == give_up_action::shut_down) {
    context_.give_up(fmt::format("agent {}: {}", who.agent, here.life.why_none(who)), nullptr);
  } else {
    context_.emit(event_about(who, cluster_event::kind::degraded, here.life.why_none(who)));
  }
  return pause;
}

COHORT_INLINE void agent_supervisor::begin_stop() {
  for (const auto& each : agents_) each->cancel_wait();
}

COHORT_INLINE asio::awaitable<void> agent_supervisor::stop() {
  for (const auto& each : agents_) {
    if (each->state() == worker_state::waiting || each->state() == worker_state::dead) continue;
    context_.enter(*each, worker_state::stopping);
    each->end.asked = true;
    each->limit_state(limit_of(*each));
    each->tell(worker_protocol::drain());
  }
  co_await tasks_.wait_empty();
}

COHORT_INLINE void agent_supervisor::kill() {
  for (const auto& each : agents_) each->kill();
}

COHORT_INLINE std::vector<agent_stats> agent_supervisor::stats() const {
  std::vector<agent_stats> result;
  for (const auto& each : context_.options.agents) {
    agent_stats one;
    one.name = each.name;
    if (const auto at = places_.find(each.name); at != places_.end()) one.restarts = at->second.restarts;
    for (const auto& who : agents_) {
      if (who->agent != each.name) continue;
      one.pid = who->pid();
      one.state = who->state();
      one.memory = who->figures.health.memory;
      const auto since = worker_process::clock::now() - who->started();
      if (one.pid != 0) one.uptime = std::chrono::duration_cast<std::chrono::milliseconds>(since);
    }
    result.push_back(std::move(one));
  }
  return result;
}

COHORT_INLINE void agent_supervisor::begin_with_trouble(const std::string& name, const std::string& why) {
  if (trouble_.empty()) trouble_ = fmt::format("agent {}: not ready: {}", name, why);
  context_.changed.notify();
}

COHORT_INLINE std::chrono::milliseconds agent_supervisor::limit_of(const worker_process& who) const {
  auto own = context_.options.worker.drain_timeout;
  for (const auto& each : context_.options.agents) {
    if (each.name == who.agent) own = each.drain_timeout;
  }
  return context_.drain_limit(own);
}

COHORT_INLINE command agent_supervisor::program_for(const agent_options& what) const {
  return what.command ? *what.command : context_.as_user(hooks_.own_program());
}

COHORT_INLINE void agent_supervisor::on_ready(const worker_ptr& who) {
  if (who->state() != worker_state::starting) return;
  place& here = places_.at(who->agent);
  const bool first = !std::exchange(here.was_ready, true);
  here.life.on_ready(*who);
  if (context_.all_ready) who->tell(worker_protocol::all_ready());
  if (context_.leaving) who->tell(worker_protocol::leaving());
  if (!first) hooks_.changed(who->agent, true);
}

COHORT_INLINE void agent_supervisor::on_draining(const worker_ptr& who, const worker_protocol::draining& word) {
  context_.emit(event_about(*who, cluster_event::kind::draining, word.reason));
  if (!who->is_coming_or_ready()) return;
  who->end.trouble = word.reason;
  context_.enter(*who, worker_state::draining);
  who->limit_state(limit_of(*who));
}

}  // namespace cohort
