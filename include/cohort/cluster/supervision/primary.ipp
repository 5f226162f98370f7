// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "primary.hpp"

#include <algorithm>
#include <chrono>
#include <memory>
#include <new>
#include <set>

#include <fmt/format.h>

#include "../../core/config.hpp"
#include "../../core/error.hpp"
#include "../../core/error_log.hpp"
#include "../../core/scope.hpp"
#include "../../core/text_of.hpp"
#include "../../core/timeout.hpp"
#include "../../ipc/codec/codec.hpp"
#include "../../ipc/codec/schema.hpp"
#include "../../process/detail/credentials.hpp"
#include "../../schedule/planner.hpp"
#include "../../schedule/runner.hpp"
#include "schedule_executor.hpp"

namespace cohort {

COHORT_INLINE primary::primary(const asio::any_io_executor& executor, cluster_options options)
    : context_(executor, detail::normalized(std::move(options))),
      events_(executor, 1024),
      all_ready_(executor),
      router_(executor, workers_, agents_, [this](const worker_ptr& who) { replace_slow(*who); }),
      listeners_(context_),
      dialect_(context_.options.dialect ? context_.options.dialect(context_, listeners_) : nullptr),
      worker_supervisor_(context_, workers_, router_, listeners_,
                         {[this](worker_ptr who, const char* reason) { updates_.recycle(std::move(who), reason); },
                          [this](unsigned slot) { updates_.renew_others(slot); }}),
      updates_(context_, worker_supervisor_, workers_),
      agent_supervisor_(context_, agents_, router_,
                        {[this] { return worker_supervisor_.generations().program.start(); },
                         [this](const std::string& name, bool is_there) { tell_of_agent(name, is_there); }}),
      handover_(context_, worker_supervisor_, updates_, listeners_),
      tasks_(executor) {
  context_.dialect = dialect_.get();
  context_.emit = [this](cluster_event event) { emit(std::move(event)); };
  context_.give_up = [this](std::string why, std::exception_ptr failure) { give_up(why, failure); };
}

COHORT_INLINE asio::awaitable<int> primary::run(upgrade::predecessor* predecessor) {
  const detail::on_exit finished([this] { events_.close(); });
  const auto& options = context_.options;
  check_agents();
  check_processes();
  (void)schedule_planner(schedules(), schedule::time_point::clock::now());  // throws for one that is wrong
  unsigned wanted = options.worker_count();
  begun_ = worker_process::clock::now();
  std::vector<upgrade::listener> handed;
  if (predecessor != nullptr) {
    handed = co_await predecessor->listeners();
    auto& generations = worker_supervisor_.generations();
    generations.current = generations.last = predecessor->generation() + 1;
    if (predecessor->workers() != 0) wanted = predecessor->workers();
  }
  worker_supervisor_.set_size(wanted);
  std::exception_ptr failure;
  try {
    listeners_.open(std::move(handed), predecessor != nullptr);
    if (wanted != options.worker_count()) listeners_.resize(wanted);
  } catch (...) {
    failure = std::current_exception();
  }
  if (failure) {
    listeners_.cancel();
    co_await listeners_.stop();
    std::rethrow_exception(failure);
  }
  // From here on processes run that must not be left behind, whatever there is no memory for.
  try {
    co_await serve(predecessor);
    co_await end_all();
  } catch (...) {
    failure = std::current_exception();
  }
  if (failure) {
    give_up("the primary", failure);
    kill("gave up");
    co_await end_all();
  }
  co_return context_.gave_up || worker_supervisor_.has_cut_off() ? 1 : 0;
}

COHORT_INLINE asio::awaitable<void> primary::serve(upgrade::predecessor* predecessor) {
  const std::string trouble = co_await agent_supervisor_.start();
  if (!trouble.empty()) give_up(trouble, nullptr);
  tasks_.start(begin_together(predecessor), ignored("what is wrong with a predecessor or a schedule is an event"));
  worker_supervisor_.start_all();
  co_await context_.stop.wait();
}

COHORT_INLINE asio::awaitable<void> primary::end_all() {
  co_await listeners_.stop();
  co_await worker_supervisor_.stop();
  co_await agent_supervisor_.stop();
  co_await tasks_.wait_empty();
  if (dialect_) co_await dialect_->stop();
  co_await updates_.wait_idle();  // an upgrade's successor is not to be left behind
}

COHORT_INLINE asio::awaitable<void> primary::begin_together(upgrade::predecessor* predecessor) {
  while (!context_.stop.is_set() && workers_.serving() < worker_supervisor_.size()) co_await context_.changed.wait();
  if (context_.stop.is_set()) co_return;
  context_.all_ready = true;
  all_ready_.set();
  tell_all(worker_protocol::all_ready());
  if (predecessor != nullptr) co_await handover_.succeed(*predecessor);
  if (!context_.options.schedules.empty()) co_await run_all_schedules();
}

COHORT_INLINE asio::awaitable<void> primary::run_all_schedules() {
  schedule_planner planner(schedules(), schedule::time_point::clock::now());
  schedule_executor place(workers_, agents_, [this](const schedule_result& result) {
    cluster_event event(cluster_event::kind::schedule_ran, result.worker);
    event.run = std::make_shared<const schedule_result>(result);
    emit(std::move(event));
  });
  wall_clock clock;
  co_await run_schedules(planner, clock, place, context_.stop);
}

COHORT_INLINE void primary::stop(const std::string& why) {
  const bool again = context_.leaving;
  leave(why);
  // Where nothing has served yet, nobody has to be told to go elsewhere.
  if (again || context_.gave_up || !context_.all_ready || context_.options.lame_duck.count() <= 0) {
    return end_serving();
  }
  try {
    tell_all(worker_protocol::leaving());
    tasks_.start(be_lame_duck(), [this](const std::exception_ptr&) { end_serving(); });
  } catch (const std::bad_alloc&) {
    end_serving();
  }
}

COHORT_INLINE void primary::leave(const std::string& why) {
  if (std::exchange(context_.leaving, true)) return;
  try {
    emit(cluster_event(cluster_event::kind::stopping, 0, 0, why));
  } catch (const std::bad_alloc&) {  // then it stops unheard: whoever says so cannot do it again
  }
  handover_.on_stop();
}

COHORT_INLINE asio::awaitable<void> primary::be_lame_duck() {
  co_await with_timeout(context_.stop.wait(), context_.options.lame_duck);
}

COHORT_INLINE void primary::end_serving() {
  if (context_.stop.is_set()) return;
  context_.stop.set();
  worker_supervisor_.begin_stop();
  agent_supervisor_.begin_stop();
  context_.changed.notify();
}

COHORT_INLINE void primary::kill(const std::string& why) {
  leave(why);
  end_serving();
  context_.killed = true;
  listeners_.cancel();
  worker_supervisor_.kill_all();
  agent_supervisor_.kill();
}

COHORT_INLINE void primary::scale(unsigned workers) {
  workers = std::max(workers, 1u);
  if (context_.stop.is_set() || workers == worker_supervisor_.size()) return;
  if (handover_.is_under_way()) throw_error("an upgrade is under way", errc::invalid_option);
  listeners_.resize(workers);
  worker_supervisor_.scale(workers);
}

COHORT_INLINE asio::awaitable<upgrade_result> primary::upgrade(
    std::vector<std::pair<std::string, std::string>> environment) {
  auto result = co_await handover_.upgrade(std::move(environment));
  if (result.success()) {
    leave("upgraded");
    end_serving();
  }
  co_return result;
}

COHORT_INLINE void primary::reopen() {
  tell_all(worker_protocol::reopen());
  if (!context_.options.on_reopen) return;
  try {
    context_.options.on_reopen();
  } catch (...) {  // of a file that cannot be opened: the service goes on
    const auto what = detail::text_of(std::current_exception());
    emit(cluster_event(cluster_event::kind::failed, 0, 0, fmt::format("on_reopen: {}", what)));
  }
}

COHORT_INLINE void primary::emit(cluster_event event) {
  while (!events_.try_push(std::move(event)) && !events_.is_closed()) (void)events_.try_pop();
}

COHORT_INLINE void primary::give_up(const std::string& why, const std::exception_ptr& failure) {
  if (std::exchange(context_.gave_up, true)) return;
  try {
    const std::string text = failure ? fmt::format("{}: {}", why, detail::text_of(failure)) : why;
    emit(cluster_event(cluster_event::kind::gave_up, 0, 0, text));
  } catch (const std::bad_alloc&) {  // then it gives up unheard
  }
  stop("gave up");
}

COHORT_INLINE void primary::replace_slow(worker_process& who) {
  context_.fail(who, "too slow for its messages");
  who.tell(worker_protocol::drain());
}

COHORT_INLINE void primary::tell_of_agent(const std::string& name, bool is_there) {
  if (context_.stop.is_set()) return;
  const auto send = [this]<class M>(const M& message) {
    byte_buffer bytes;
    encode(bytes, message);
    tasks_.start(send_to_workers(fingerprint<M>(), std::string(bytes.view())), ignored("a worker that is gone"));
  };
  if (is_there) {
    send(agent_back{name});
  } else {
    send(agent_gone{name});
  }
}

COHORT_INLINE asio::awaitable<void> primary::send_to_workers(std::uint64_t type, std::string body) {
  co_await router_.endpoint().send(recipient::workers(), type, std::move(body));
}

COHORT_INLINE cluster_stats primary::stats() const {
  const auto now = worker_process::clock::now();
  const auto since = [now](worker_process::clock::time_point then) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(now - then);
  };
  cluster_stats result;
  result.generation = worker_supervisor_.generations().current;
  result.wanted = worker_supervisor_.size();
  result.ready = static_cast<unsigned>(workers_.serving());
  result.restarts = worker_supervisor_.restarts();
  result.reloads = updates_.reloads();
  result.uptime = since(begun_);
  result.stopping = context_.leaving;
  result.in_service = context_.all_ready && !context_.leaving && result.ready > 0;
  result.served = worker_supervisor_.served_before();
  result.counters = context_.counters.all();
  result.lost_log_lines = error_log::lost();
  result.listeners = listeners_.stats();
  for (const auto& each : workers_) {
    worker_stats one;
    one.slot = each->number();
    one.generation = each->generation();
    one.pid = each->pid();
    one.state = each->state();
    if (one.state != worker_state::waiting) one.uptime = since(each->started());
    one.leased = each->open();
    one.refused = each->figures.refused;
    one.open = each->figures.health.open;
    one.served = each->figures.health.served;
    if (one.state != worker_state::dead) result.served += one.served;
    one.memory = each->figures.health.memory;
    one.lag = std::chrono::duration_cast<std::chrono::microseconds>(each->figures.lag);
    result.workers.push_back(one);
  }
  std::sort(result.workers.begin(), result.workers.end(), [](const auto& a, const auto& b) {
    return a.slot != b.slot ? a.slot < b.slot : a.generation < b.generation;
  });
  result.slots = worker_supervisor_.slots();
  result.agents = agent_supervisor_.stats();
  return result;
}

COHORT_INLINE std::vector<schedule> primary::schedules() const {
  std::vector<schedule> result;
  for (const auto& each : context_.options.schedules) result.push_back(each.when);
  return result;
}

COHORT_INLINE void primary::check_processes() const {
  const auto& options = context_.options;
  const auto named = [](const std::string& text) {
    return text.empty() ? std::nullopt : std::optional(detail::account_in(text));
  };
  (void)detail::credentials_lookup::find(named(options.user), named(options.group), std::nullopt);
  if (const auto score = options.oom_score_adj; score && (*score < -1000 || *score > 1000)) {
    throw_error(fmt::format("oom_score_adj {}: want -1000 to 1000", *score), errc::invalid_option);
  }
}

COHORT_INLINE void primary::check_agents() const {
  std::set<std::string> names;
  for (const auto& each : context_.options.agents) {
    if (each.name.empty()) throw_error("agent: an empty name", errc::invalid_option);
    if (!names.insert(each.name).second) {
      throw_error(fmt::format("agent {}: the name is used twice", each.name), errc::invalid_option);
    }
    if (context_.options.program && !each.command) {
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

}  // namespace cohort
