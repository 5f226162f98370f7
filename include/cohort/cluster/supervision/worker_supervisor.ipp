// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "worker_supervisor.hpp"

#include <exception>
#include <utility>

#include <fmt/format.h>

#include "../../core/config.hpp"
#include "../../worker/exit_codes.hpp"

namespace cohort {

COHORT_INLINE worker_supervisor::worker_supervisor(primary_context& context, worker_set& workers,
                                                   message_router& router, listener_set& listeners,
                                                   update_requests requests)
    : context_(context),
      workers_(workers),
      listeners_(listeners),
      requests_(std::move(requests)),
      watch_(context, router, *this),
      restarting_(context),
      tasks_(context.get_executor()) {}

COHORT_INLINE void worker_supervisor::start_all() {
  for (unsigned number = 1; number <= wanted_ && !context_.stop.is_set(); ++number) {
    start(number, generations_.current, std::chrono::milliseconds(0));
  }
  drop_what_nobody_takes();
}

COHORT_INLINE worker_ptr worker_supervisor::start(unsigned number, unsigned generation, std::chrono::milliseconds pause,
                                                  worker_role role) {
  auto who = std::make_shared<worker_process>(context_.get_executor(), number, generation, context_.options.delivery);
  who->assume(role);
  workers_.add(who);
  if (const auto past = past_.find(number); past != past_.end()) past->second.degraded = false;
  const auto ended = [this, who](std::exception_ptr failure) {
    workers_.remove(who);
    if (failure) {  // for want of memory, say: a slot must not be lost in silence
      on_end(who);
      who->kill();
      if (who->state() != worker_state::dead) context_.enter(*who, worker_state::dead);  // no limit is kept for it
      context_.give_up(fmt::format("worker {}", who->number()), failure);
    }
    if (workers_.empty() && !context_.stop.is_set()) context_.give_up("no worker is left", nullptr);
  };
  try {
    tasks_.start(supervise(who, pause), ended);
  } catch (...) {
    workers_.remove(who);
    throw;
  }
  return who;
}

COHORT_INLINE asio::awaitable<void> worker_supervisor::supervise(worker_ptr who, std::chrono::milliseconds pause) {
  if (pause.count() > 0) co_await who->wait(pause);
  while (!may_start(*who)) co_await context_.changed.wait();
  if (!context_.stop.is_set() && who->role() != worker_role::dismissed) co_await watch_.launch(who, program_for(*who));
  if (who->peer.process()) {
    if (context_.killed) who->kill();
    if (context_.stop.is_set()) ask_to_stop(*who);
    const worker_ending how = co_await watch_.attend(who);
    on_exit(who, how);
  } else {
    context_.enter(*who, worker_state::dead);
    drop_what_nobody_takes();
    // In a turn of its own, or each that cannot start would start the next one inside.
    co_await asio::post(context_.get_executor(), asio::use_awaitable);
  }
  replace(*who);
}

COHORT_INLINE void worker_supervisor::on_exit(const worker_ptr& who, const worker_ending& how) {
  const exit_reason reason = restarting_.on_exit(*who, how);
  served_before_ += who->figures.health.served;
  if (context_.stop.is_set() && how.killed) has_cut_off_ = true;
  auto& past = past_[who->number()];
  past.last_exit = how.status;
  past.last_reason = reason;
  past.last_trouble = who->end.trouble;
  drop_what_nobody_takes();
  if (reason != exit_reason::do_not_restart) return;
  if (who->role() == worker_role::incumbent) context_.emit(event_about(*who, cluster_event::kind::not_restarted));
  who->assume(worker_role::retired);
}

COHORT_INLINE command worker_supervisor::program_for(const worker_process& who) const {
  if (context_.options.program) return context_.as_user(*context_.options.program);
  const auto& version = who.generation() > generations_.current ? generations_.next : generations_.program;
  return context_.as_user(version.start());
}

COHORT_INLINE bool worker_supervisor::may_start(const worker_process& who) const {
  const unsigned most = context_.options.max_starting;
  if (context_.stop.is_set() || who.role() == worker_role::dismissed || most == 0) return true;
  return workers_.count_in(worker_state::starting) < most;
}

COHORT_INLINE void worker_supervisor::on_ready(const worker_ptr& who) {
  if (who->state() != worker_state::starting) return;
  restarting_.on_ready(*who);
  if (who->role() != worker_role::candidate) join(who);
}

COHORT_INLINE void worker_supervisor::on_draining(const worker_ptr& who, const worker_protocol::draining& word) {
  context_.emit(event_about(*who, cluster_event::kind::draining, word.reason));
  if (!who->is_coming_or_ready()) return;
  who->end.trouble = word.reason;
  listeners_.leave(who);
  context_.enter(*who, worker_state::draining);
  drop_what_nobody_takes();
  who->limit_state(context_.drain_limit(context_.options.worker.drain_timeout));
  // The replacement starts now, before this one is gone; of one that wants none the exit status will tell.
  if (word.status != static_cast<int>(worker_exit::do_not_restart)) replace(*who);
}

COHORT_INLINE void worker_supervisor::on_figures(const worker_ptr& who) {
  listeners_.on_ended();
  if (listeners_.is_overdue(*who)) {
    const auto limit = std::chrono::duration<double>(context_.options.limits.lease_timeout).count();
    context_.fail(*who, fmt::format("it has left a connection untaken for {} s", limit));
    on_end(who);
    who->kill(end_cause::hung);
    return;
  }
  if (!who->is_serving() || who->recycling) return;
  const auto age = std::chrono::duration_cast<std::chrono::milliseconds>(worker_process::clock::now() - who->started());
  const auto& health = who->figures.health;
  const char* const reason = context_.options.recycle.reached(health.served, age, health.memory, who->fraction);
  if (reason == nullptr) return;
  who->recycling = true;
  requests_.recycle(who, reason);
}

COHORT_INLINE void worker_supervisor::on_end(const worker_ptr& who) { listeners_.leave(who); }

COHORT_INLINE void worker_supervisor::join(const worker_ptr& who) {
  if (context_.all_ready) who->tell(worker_protocol::all_ready());
  if (context_.leaving) who->tell(worker_protocol::leaving());
  listeners_.join(who);
}

COHORT_INLINE void worker_supervisor::replace(worker_process& who) {
  if (context_.stop.is_set() || who.role() != worker_role::incumbent) return;
  who.assume(worker_role::retired);
  if (who.number() > wanted_) return;
  const auto pause = restarting_.next_pause(who);
  if (!pause) {
    give_up_on(who, restarting_.why_none(who));
    return;
  }
  ++restarts_;
  ++past_[who.number()].restarts;
  start(who.number(), generations_.current, *pause);
  if (context_.options.restart.scope == restart_scope::one_for_all) requests_.renew_others(who.number());
}

COHORT_INLINE void worker_supervisor::give_up_on(const worker_process& who, const std::string& why) {
  const auto& decide = context_.options.on_give_up;
  const auto action = decide ? decide(who.number(), why) : context_.options.restart.on_give_up;
  if (action == give_up_action::shut_down) {
    context_.give_up(why, nullptr);
  } else {
    past_[who.number()].degraded = true;
    context_.emit(cluster_event(cluster_event::kind::degraded, who.number(), 0, why));
  }
}

COHORT_INLINE void worker_supervisor::fill(unsigned number) {
  if (context_.stop.is_set() || number > wanted_) return;
  for (const auto& each : workers_) {
    const bool lives = each->state() != worker_state::draining && each->state() != worker_state::dead;
    const bool serves = each->role() != worker_role::dismissed && each->role() != worker_role::candidate;
    if (each->number() == number && lives && serves) return;
  }
  start(number, generations_.current, std::chrono::milliseconds(0));
}

COHORT_INLINE void worker_supervisor::promote(const worker_ptr& who) {
  who->assume(worker_role::incumbent);
  join(who);
  for (const auto& each : workers_.copy()) {
    if (each != who && each->number() == who->number() && each->role() != worker_role::candidate) retire(each);
  }
}

COHORT_INLINE void worker_supervisor::retire(const worker_ptr& who) {
  const bool waits = who->state() == worker_state::waiting;
  who->assume(waits ? worker_role::dismissed : worker_role::retired);
  if (waits) {
    who->cancel_wait();
    context_.changed.notify();
  }
  if (!who->is_coming_or_ready()) return;
  listeners_.leave(who);
  context_.enter(*who, worker_state::draining);
  who->end.asked = true;
  who->limit_state(context_.drain_limit(context_.options.worker.drain_timeout));
  who->tell(worker_protocol::drain());
}

COHORT_INLINE void worker_supervisor::retire_slot(unsigned number) {
  for (const auto& each : workers_.copy()) {
    if (each->number() == number && each->role() != worker_role::candidate) retire(each);
  }
}

COHORT_INLINE void worker_supervisor::scale(unsigned workers) {
  const unsigned before = std::exchange(wanted_, workers);
  context_.emit(cluster_event(cluster_event::kind::scaled, 0, 0, std::to_string(workers)));
  for (unsigned number = before + 1; number <= workers; ++number) {
    start(number, generations_.current, std::chrono::milliseconds(0));
  }
  for (const auto& each : workers_.copy()) {
    if (each->number() > workers) retire(each);
  }
}

COHORT_INLINE bool worker_supervisor::kill_worker(unsigned slot) {
  bool found = false;
  for (const auto& each : workers_) {
    if (each->number() != slot || !each->peer.process()) continue;
    each->kill();
    found = true;
  }
  return found;
}

COHORT_INLINE void worker_supervisor::kill_all() {
  for (const auto& each : workers_) each->kill();
}

COHORT_INLINE void worker_supervisor::begin_stop() {
  for (const auto& each : workers_) {
    if (each->state() == worker_state::waiting) each->cancel_wait();
  }
  drop_what_nobody_takes();
}

COHORT_INLINE asio::awaitable<void> worker_supervisor::stop() {
  for (const auto& each : workers_) ask_to_stop(*each);
  co_await tasks_.wait_empty();
}

COHORT_INLINE void worker_supervisor::ask_to_stop(worker_process& who) {
  if (who.state() == worker_state::waiting || who.state() == worker_state::dead) return;
  if (who.state() != worker_state::stopping) context_.enter(who, worker_state::stopping);
  who.end.asked = true;
  who.limit_state(context_.drain_limit(context_.options.worker.drain_timeout));
  worker_protocol::drain order;
  order.empty_queues = listeners_.workers_accept();
  who.tell(order);
  if (context_.killed) who.kill();
}

COHORT_INLINE void worker_supervisor::drop_what_nobody_takes() {
  if (!context_.stop.is_set()) return;
  for (const auto& each : workers_) {
    if (each->is_coming_or_ready()) return;
  }
  listeners_.cancel();
}

COHORT_INLINE std::vector<slot_stats> worker_supervisor::slots() const {
  std::vector<slot_stats> result;
  for (auto [number, past] : past_) {
    past.slot = number;
    past.degraded = past.degraded && number <= wanted_;
    result.push_back(std::move(past));
  }
  return result;
}

}  // namespace cohort
