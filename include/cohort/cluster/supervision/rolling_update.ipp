// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "rolling_update.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <exception>
#include <system_error>

#include <fmt/format.h>

#include "../../core/asio_error.hpp"
#include "../../core/config.hpp"
#include "../../core/scope.hpp"

namespace cohort {

COHORT_INLINE rolling_update::update_lock::~update_lock() {
  if (owner_ == nullptr) return;
  owner_->busy_ = false;
  owner_->context_.changed.notify();
}

COHORT_INLINE asio::awaitable<rolling_update::update_lock> rolling_update::lock() {
  while (busy_) co_await context_.changed.wait();
  co_return update_lock(*this);
}

COHORT_INLINE asio::awaitable<reload_result> rolling_update::reload(std::string why) {
  reload_result result;
  const update_lock mine = co_await lock();
  if (context_.stop.is_set()) {
    result.reason = stopping_text;
    co_return result;
  }
  const auto begin = worker_process::clock::now();
  auto& generations = supervisor_.generations();
  const bool own_program = !context_.options.program;
  result.generation = ++generations.last;
  context_.emit(cluster_event(cluster_event::kind::reloading, 0, 0, why));
  try {
    if (own_program) generations.next = generations.program.on_disk();
    limit_draining();
    for (unsigned done = 0; done < supervisor_.size() && result.success();) {  // there may be more by then
      std::vector<unsigned> numbers;
      while (done < supervisor_.size()) numbers.push_back(++done);
      co_await renew(std::move(numbers), result);
    }
  } catch (...) {
    const auto error = detail::caught();
    if (error.code() == operation_aborted()) throw;
    result.reason = error.what();
  }
  if (!result.success()) {
    const std::string where = result.aborted_at != 0 ? fmt::format("worker {}: ", result.aborted_at) : std::string();
    context_.emit(cluster_event(cluster_event::kind::reload_failed, result.aborted_at, 0, where + result.reason));
    co_return result;
  }
  generations.current = result.generation;
  if (own_program) generations.program = std::move(generations.next);
  ++reloads_;
  cluster_event done(cluster_event::kind::reloaded);
  if (own_program) done.text = generations.program.file();
  done.after = std::chrono::duration_cast<std::chrono::microseconds>(worker_process::clock::now() - begin);
  context_.emit(std::move(done));
  co_return result;
}

COHORT_INLINE void rolling_update::recycle(worker_ptr who, const char* reason) {
  tasks_.start(recycle_one(std::move(who), reason));
}

COHORT_INLINE asio::awaitable<void> rolling_update::recycle_one(worker_ptr who, const char* reason) {
  const update_lock mine = co_await lock();
  if (context_.stop.is_set() || !who->is_serving()) co_return;
  const std::string text = fmt::format("worker {}, because of {}", who->number(), reason);
  context_.emit(event_about(*who, cluster_event::kind::reloading, text));
  reload_result result;
  result.generation = supervisor_.generations().current;
  co_await renew(std::vector<unsigned>(1, who->number()), result);
  if (!result.success() && !context_.stop.is_set()) {
    who->recycling = false;  // its next figures bring it up again
    context_.emit(cluster_event(cluster_event::kind::reload_failed, who->number(), 0, result.reason));
  }
}

COHORT_INLINE void rolling_update::renew_others(unsigned slot) {
  if (!std::exchange(renews_others_, true)) tasks_.start(renew_all_but(slot));
}

COHORT_INLINE asio::awaitable<void> rolling_update::renew_all_but(unsigned slot) {
  const detail::on_exit done([this] { renews_others_ = false; });
  const update_lock mine = co_await lock();
  reload_result result;
  result.generation = supervisor_.generations().current;
  std::vector<unsigned> numbers;
  for (unsigned number = 1; number <= supervisor_.size(); ++number) {
    if (number != slot) numbers.push_back(number);
  }
  const std::string why = fmt::format("worker {} has ended, one for all", slot);
  context_.emit(cluster_event(cluster_event::kind::reloading, slot, 0, why));
  co_await renew(std::move(numbers), result);
  if (result.success()) co_return;
  context_.emit(cluster_event(cluster_event::kind::reload_failed, result.aborted_at, 0, result.reason));
}

COHORT_INLINE asio::awaitable<void> rolling_update::wait_idle() {
  co_await tasks_.wait_empty();
  while (busy_) co_await context_.changed.wait();
}

COHORT_INLINE asio::awaitable<void> rolling_update::renew(std::vector<unsigned> numbers, reload_result& result) {
  const auto& how = context_.options.reload;
  const std::size_t most = how.max_unavailable + how.max_surge;
  const std::size_t at_a_time = most != 0 ? most : numbers.size();
  for (std::size_t done = 0; done < numbers.size() && result.success();) {
    const auto first = numbers.begin() + static_cast<std::ptrdiff_t>(done);
    const std::size_t count = std::min(at_a_time, numbers.size() - done);
    co_await renew_batch(std::vector<unsigned>(first, first + static_cast<std::ptrdiff_t>(count)), result);
    done += count;
  }
}

COHORT_INLINE asio::awaitable<void> rolling_update::renew_batch(std::vector<unsigned> batch, reload_result& result) {
  const auto gone = std::min<std::size_t>(context_.options.reload.max_unavailable, batch.size());
  for (std::size_t i = 0; i < gone; ++i) supervisor_.retire_slot(batch[i]);
  {
    std::vector<worker_ptr> fresh;
    const detail::on_exit send_away([&] {  // those that do not serve, however this ends
      for (const auto& each : fresh) {
        if (each->role() == worker_role::candidate) supervisor_.retire(each);
      }
    });
    for (const unsigned number : batch) {
      if (number > supervisor_.size()) continue;
      fresh.push_back(
          supervisor_.start(number, result.generation, std::chrono::milliseconds(0), worker_role::candidate));
    }
    while (!context_.stop.is_set() && !failed_one(fresh, result) && !all_ready(fresh)) {
      co_await context_.changed.wait();
      // Some slots may be no more by now.
      std::erase_if(fresh, [this](const auto& each) { return each->number() > supervisor_.size(); });
    }
    if (result.success() && context_.stop.is_set()) result.reason = stopping_text;
    if (result.success()) {
      for (const auto& each : fresh) supervisor_.promote(each);
      result.replaced += static_cast<unsigned>(fresh.size());
    }
  }
  if (result.success()) co_return;
  for (const unsigned number : batch) supervisor_.fill(number);
}

COHORT_INLINE void rolling_update::limit_draining() {
  const std::size_t most = context_.options.reload.max_draining;
  const std::size_t drain = workers_.count_in(worker_state::draining);
  if (most == 0 || drain <= most) return;
  std::size_t spare = drain - most;
  for (const auto& each : workers_.copy()) {  // in the order of their starts
    if (each->state() != worker_state::draining || spare == 0) continue;
    --spare;
    context_.fail(*each, "too many workers of earlier generations drain");
    each->kill();
  }
}

COHORT_INLINE bool rolling_update::failed_one(const std::vector<worker_ptr>& fresh, reload_result& result) {
  for (const auto& each : fresh) {
    if (each->state() != worker_state::draining && each->state() != worker_state::dead) continue;
    result.aborted_at = each->number();
    result.reason = each->end.trouble.empty() ? "it has ended" : each->end.trouble;
    return true;
  }
  return false;
}

COHORT_INLINE bool rolling_update::all_ready(const std::vector<worker_ptr>& fresh) {
  return std::all_of(fresh.begin(), fresh.end(),
                     [](const auto& each) { return each->state() == worker_state::ready; });
}

}  // namespace cohort
