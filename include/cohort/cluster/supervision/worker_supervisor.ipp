// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "worker_supervisor.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <system_error>

#include <fmt/format.h>

#include "../events.hpp"

namespace cohort {

COHORT_INLINE asio::awaitable<reload_result> worker_supervisor::reload(std::string why) {
  reload_result result;
  const update_lock mine = co_await lock_updates();
  if (stop_.is_set()) {
    result.reason = stopping_text;
    co_return result;
  }
  const auto begin = worker_process::clock::now();
  result.generation = ++last_generation_;
  emit(cluster_event(cluster_event::kind::reloading, 0, 0, why));
  try {
    if (!options_.program) next_program_ = program_.on_disk();
    limit_draining();
    for (unsigned done = 0; done < wanted_ && result.success();) {  // there may be more by the time that these are done
      std::vector<unsigned> numbers;
      while (done < wanted_) numbers.push_back(++done);
      co_await renew(std::move(numbers), result);
    }
  } catch (const std::system_error& error) {
    if (error.code() == asio::error::operation_aborted) throw;
    result.reason = error.what();
  }
  if (!result.success()) {
    const std::string where = result.aborted_at != 0 ? fmt::format("worker {}: ", result.aborted_at) : std::string();
    emit(cluster_event(cluster_event::kind::reload_failed, result.aborted_at, 0, where + result.reason));
    co_return result;
  }
  generation_ = result.generation;
  if (!options_.program) program_ = std::move(next_program_);
  ++reloads_;
  cluster_event done(cluster_event::kind::reloaded);
  done.after = std::chrono::duration_cast<std::chrono::microseconds>(worker_process::clock::now() - begin);
  emit(std::move(done));
  co_return result;
}

COHORT_INLINE void worker_supervisor::scale(unsigned workers) {
  workers = std::max(workers, 1u);
  if (stop_.is_set() || workers == wanted_) return;
  resize(workers);
  const unsigned before = std::exchange(wanted_, workers);
  emit(cluster_event(cluster_event::kind::scaled, 0, 0, std::to_string(workers)));
  for (unsigned number = before + 1; number <= workers; ++number) start(number, generation_, at_once);
  const auto all = workers_;
  for (const auto& each : all) {
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

COHORT_INLINE worker_supervisor::update_lock::~update_lock() {
  if (owner_ == nullptr) return;
  owner_->renewing_ = false;
  owner_->changed_.notify();
}

COHORT_INLINE worker_supervisor::dismissal::~dismissal() {
  for (const auto& each : fresh) {
    if (each->candidate) owner.retire(each);
  }
}

COHORT_INLINE void worker_supervisor::begin_stop() {
  stop_.set();
  for (const auto& each : workers_) {
    if (each->state() == worker_state::waiting) each->cancel_wait();
  }
  changed_.notify();
  drop_what_nobody_takes();
}

COHORT_INLINE std::ptrdiff_t worker_supervisor::serving() const {
  return std::count_if(workers_.begin(), workers_.end(), [](const auto& each) { return each->is_serving(); });
}

COHORT_INLINE worker_supervisor::worker_ptr worker_supervisor::start(unsigned number, unsigned generation,
                                                                     std::chrono::milliseconds pause, bool candidate) {
  auto who = std::make_shared<worker_process>(get_executor(), number, generation, options_.delivery);
  who->candidate = who->replaced = candidate;  // who replaces a candidate is not the restart policy's to say
  workers_.push_back(who);
  if (const auto past = past_.find(number); past != past_.end()) past->second.degraded = false;
  tasks_.start(supervise(who, pause), [this, who](std::exception_ptr failure) {
    std::erase(workers_, who);
    if (failure) {  // for want of memory, say: a slot must not be lost in silence
      leave(who);
      who->kill();
      give_up(fmt::format("worker {}", who->number()), failure);
    }
    if (workers_.empty() && !stop_.is_set()) give_up("no worker is left", nullptr);
  });
  return who;
}

COHORT_INLINE asio::awaitable<void> worker_supervisor::supervise(worker_ptr who, std::chrono::milliseconds pause) {
  if (pause.count() > 0) co_await who->wait(pause);
  while (!may_start(*who)) co_await changed_.wait();
  if (!stop_.is_set() && !who->dismissed) co_await launch(who);
  if (who->peer.process()) {
    if (killed_) who->kill();
    if (stop_.is_set()) ask_to_stop(*who);
    const worker_ending how = co_await attend(who);
    on_exit(who, how);
  } else {
    enter(*who, worker_state::dead);
    drop_what_nobody_takes();
    // In a update_lock of its own, or each that cannot start would start the next one inside.
    co_await asio::post(get_executor(), asio::use_awaitable);
  }
  replace(*who);
}

COHORT_INLINE void worker_supervisor::on_exit(const worker_ptr& who, const worker_ending& how) {
  cluster_event exited(cluster_event::kind::exited, who->number(), who->pid());
  exited.status = how.status;
  exited.reason = classify(how);
  if (who->trouble.empty()) who->trouble = fmt::to_string(how.status);
  auto& past = past_[who->number()];
  past.slot = who->number();
  past.last_exit = how.status;
  past.last_reason = exited.reason;
  past.last_trouble = who->trouble;
  enter(*who, worker_state::dead);
  who->peer.close();
  drop_what_nobody_takes();
  const bool unwanted = exited.reason == exit_reason::do_not_restart;
  emit(std::move(exited));
  if (!unwanted) return;
  if (!who->replaced) emit(cluster_event(cluster_event::kind::not_restarted, who->number(), who->pid()));
  who->replaced = true;
}

COHORT_INLINE command worker_supervisor::program_for(const worker_process& who) {
  if (options_.program) return *options_.program;
  return who.generation() > generation_ ? next_program_.start() : program_.start();
}

COHORT_INLINE bool worker_supervisor::may_start(const worker_process& who) const {
  if (stop_.is_set() || who.dismissed || options_.max_starting == 0) return true;
  return count_in(workers_, worker_state::starting) < static_cast<std::ptrdiff_t>(options_.max_starting);
}

COHORT_INLINE void worker_supervisor::on_ready(const worker_ptr& who) {
  if (who->state() != worker_state::starting) return;
  enter(*who, worker_state::ready);
  options_.restart.note_ready(history_);
  cluster_event event(cluster_event::kind::ready, who->number(), who->pid());
  event.after = std::chrono::duration_cast<std::chrono::microseconds>(worker_process::clock::now() - who->started());
  emit(std::move(event));
  if (!who->candidate) join(who);
}

COHORT_INLINE void worker_supervisor::on_draining(const worker_ptr& who, const worker_protocol::draining& word) {
  emit(cluster_event(cluster_event::kind::draining, who->number(), who->pid(), word.reason));
  if (who->state() != worker_state::starting && who->state() != worker_state::ready) return;
  who->trouble = word.reason;
  leave(who);
  enter(*who, worker_state::draining);
  drop_what_nobody_takes();
  who->limit_state(drain_limit());
  // The replacement starts now, before this one is gone; of one that wants none the exit status will tell.
  if (word.status != static_cast<int>(worker_exit::do_not_restart)) replace(*who);
}

COHORT_INLINE void worker_supervisor::on_pong(const worker_ptr& who) {
  if (!who->is_serving() || who->recycling) return;
  const auto age = std::chrono::duration_cast<std::chrono::milliseconds>(worker_process::clock::now() - who->started());
  const char* const reason = options_.recycle.reached(who->health.served, age, who->health.memory, who->fraction);
  if (reason == nullptr) return;
  who->recycling = true;
  chores_.start(recycle(who, reason), [](std::exception_ptr) {});
}

COHORT_INLINE asio::awaitable<void> worker_supervisor::recycle(worker_ptr who, const char* reason) {
  const update_lock mine = co_await lock_updates();
  if (stop_.is_set() || !who->is_serving()) co_return;
  const std::string text = fmt::format("worker {}, because of {}", who->number(), reason);
  emit(cluster_event(cluster_event::kind::reloading, who->number(), who->pid(), text));
  reload_result result;
  result.generation = generation_;
  co_await renew(std::vector<unsigned>(1, who->number()), result);
  if (!result.success() && !stop_.is_set()) {
    who->recycling = false;  // the next pong brings it up again
    emit(cluster_event(cluster_event::kind::reload_failed, who->number(), 0, result.reason));
  }
}

COHORT_INLINE void worker_supervisor::limit_draining() {
  auto spare = count_in(workers_, worker_state::draining) - static_cast<std::ptrdiff_t>(options_.reload.max_draining);
  if (options_.reload.max_draining == 0) return;
  const auto all = workers_;  // in the order of their starts
  for (const auto& each : all) {
    if (each->state() != worker_state::draining || spare-- <= 0) continue;
    fail(*each, "too many workers of earlier generations drain");
    each->kill();
  }
}

COHORT_INLINE asio::awaitable<worker_supervisor::update_lock> worker_supervisor::lock_updates() {
  while (renewing_) co_await changed_.wait();
  co_return update_lock(*this);
}

COHORT_INLINE asio::awaitable<void> worker_supervisor::renew(std::vector<unsigned> numbers, reload_result& result) {
  const std::size_t gone = options_.reload.max_unavailable, surge = options_.reload.max_surge;
  const std::size_t at_a_time = gone + surge != 0 ? gone + surge : numbers.size();
  for (std::size_t done = 0; done < numbers.size();) {
    const std::size_t end = std::min(done + at_a_time, numbers.size());
    const std::vector<unsigned> batch(numbers.begin() + static_cast<std::ptrdiff_t>(done),
                                      numbers.begin() + static_cast<std::ptrdiff_t>(end));
    for (std::size_t i = 0; i < std::min(gone, batch.size()); ++i) retire_slot(batch[i]);
    std::vector<worker_ptr> fresh;
    {
      const dismissal otherwise{*this, fresh};
      for (const unsigned number : batch) {
        if (number <= wanted_) fresh.push_back(start(number, result.generation, at_once, true));
      }
      while (!stop_.is_set() && !failed_one(fresh, result) && !all_ready(fresh)) {
        co_await changed_.wait();
        std::erase_if(fresh, [this](const auto& each) { return each->number() > wanted_; });  // scaled down meanwhile
      }
      if (result.success() && stop_.is_set()) result.reason = stopping_text;
      if (result.success()) {
        for (const auto& each : fresh) promote(each);
        result.replaced += static_cast<unsigned>(fresh.size());
      }
    }
    if (!result.success()) {
      for (const unsigned number : batch) fill(number);
      co_return;
    }
    done = end;
  }
}

COHORT_INLINE void worker_supervisor::retire_slot(unsigned number) {
  const auto all = workers_;
  for (const auto& each : all) {
    if (each->number() == number && !each->candidate) retire(each);
  }
}

COHORT_INLINE void worker_supervisor::fill(unsigned number) {
  if (stop_.is_set() || number > wanted_) return;
  for (const auto& each : workers_) {
    const bool lives = each->state() != worker_state::draining && each->state() != worker_state::dead;
    if (each->number() == number && lives && !each->dismissed && !each->candidate) return;
  }
  start(number, generation_, at_once);
}

COHORT_INLINE bool worker_supervisor::failed_one(const std::vector<worker_ptr>& fresh, reload_result& result) {
  for (const auto& each : fresh) {
    if (each->state() != worker_state::draining && each->state() != worker_state::dead) continue;
    result.aborted_at = each->number();
    result.reason = each->trouble.empty() ? "it has ended" : each->trouble;
    return true;
  }
  return false;
}

COHORT_INLINE void worker_supervisor::promote(const worker_ptr& who) {
  who->candidate = who->replaced = false;
  join(who);
  const auto all = workers_;
  for (const auto& each : all) {
    if (each != who && each->number() == who->number() && !each->candidate) retire(each);
  }
}

COHORT_INLINE void worker_supervisor::retire(const worker_ptr& who) {
  who->replaced = true;
  who->candidate = false;
  if (who->state() == worker_state::waiting) {
    who->dismissed = true;
    who->cancel_wait();
    changed_.notify();
  }
  if (who->state() != worker_state::starting && who->state() != worker_state::ready) return;
  leave(who);
  enter(*who, worker_state::draining);
  who->asked = true;
  who->limit_state(drain_limit());
  who->tell(worker_protocol::drain());
}

COHORT_INLINE void worker_supervisor::drop_what_nobody_takes() {
  if (!stop_.is_set()) return;
  for (const auto& each : workers_) {
    if (each->state() == worker_state::starting || each->state() == worker_state::ready) return;
  }
  nobody_takes();
}

COHORT_INLINE void worker_supervisor::ask_to_stop(worker_process& who) {
  if (who.state() == worker_state::waiting || who.state() == worker_state::dead) return;
  if (who.state() != worker_state::stopping) enter(who, worker_state::stopping);
  who.asked = true;
  who.limit_state(drain_limit());
  worker_protocol::drain order;
  order.empty_queues = workers_accept();
  who.tell(order);
  if (killed_) who.kill();
}

COHORT_INLINE void worker_supervisor::replace(worker_process& who) {
  if (stop_.is_set() || std::exchange(who.replaced, true) || who.number() > wanted_) return;
  const auto now = worker_process::clock::now();
  std::optional<std::chrono::milliseconds> served;
  if (who.ready_since) served = std::chrono::duration_cast<std::chrono::milliseconds>(now - *who.ready_since);
  const auto pause = options_.restart.next(history_, now, served, random_fraction());
  if (!pause) {
    give_up_on(who, served ? "too many restarts" : fmt::format("worker {} did not get ready", who.number()));
    return;
  }
  ++restarts_;
  ++past_[who.number()].restarts;
  if (pause->count() > 0) {
    cluster_event event(cluster_event::kind::restarting, who.number());
    event.after = *pause;
    emit(std::move(event));
  }
  start(who.number(), generation_, *pause);
  if (options_.restart.scope == restart_scope::one_for_all) renew_others(who.number());
}

COHORT_INLINE void worker_supervisor::give_up_on(const worker_process& who, const std::string& why) {
  auto action = options_.restart.on_give_up;
  if (options_.on_give_up) action = options_.on_give_up(who.number(), why);
  if (action == give_up_action::shut_down) {
    give_up(why, nullptr);
  } else {
    past_[who.number()].degraded = true;
    emit(cluster_event(cluster_event::kind::degraded, who.number(), 0, why));
  }
}

COHORT_INLINE void worker_supervisor::renew_others(unsigned slot) {
  if (std::exchange(renews_others_, true)) return;
  chores_.start(renew_but(slot), [this](std::exception_ptr) { renews_others_ = false; });
}

COHORT_INLINE asio::awaitable<void> worker_supervisor::renew_but(unsigned slot) {
  const update_lock mine = co_await lock_updates();
  reload_result result;
  result.generation = generation_;
  std::vector<unsigned> numbers;
  for (unsigned number = 1; number <= wanted_; ++number) {
    if (number != slot) numbers.push_back(number);
  }
  const std::string why = fmt::format("worker {} has ended, one for all", slot);
  emit(cluster_event(cluster_event::kind::reloading, slot, 0, why));
  co_await renew(std::move(numbers), result);
  if (!result.success()) emit(cluster_event(cluster_event::kind::reload_failed, result.aborted_at, 0, result.reason));
}

COHORT_INLINE void worker_supervisor::give_up(const std::string& why, const std::exception_ptr& failure) {
  if (gave_up_) return;
  gave_up_ = true;
  std::string text = why;
  try {
    if (failure) std::rethrow_exception(failure);
  } catch (const std::exception& error) {
    text += fmt::format(": {}", error.what());
  }
  emit(cluster_event(cluster_event::kind::gave_up, 0, 0, text));
  stop("gave up");
}

}  // namespace cohort
