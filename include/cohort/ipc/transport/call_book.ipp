// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "call_book.hpp"

#include "../../core/config.hpp"

#include <utility>

#include "../../core/error.hpp"

namespace cohort::detail {

COHORT_INLINE void call_book::enter(waiting& call) {
  call.id = ++last_;
  waiting_.emplace(call.id, &call);
}

COHORT_INLINE void call_book::remove(const waiting& call) { waiting_.erase(call.id); }

COHORT_INLINE call_book::waiting* call_book::find(std::uint64_t id, bool& was_made) const {
  was_made = id != 0 && id <= last_;
  const auto at = waiting_.find(id);
  return at == waiting_.end() ? nullptr : at->second;
}

COHORT_INLINE void call_book::wake() {
  for (const auto& each : waiting_) each.second->changed.notify();
}

COHORT_INLINE void call_book::begin_answer(std::uint64_t id, std::weak_ptr<asio::cancellation_signal> cancel) {
  answering_[id].signal = std::move(cancel);
}

COHORT_INLINE void call_book::end_answer(std::uint64_t id) { answering_.erase(id); }

COHORT_INLINE std::shared_ptr<asio::cancellation_signal> call_book::cancel_answer(std::uint64_t id) {
  const auto at = answering_.find(id);
  if (at == answering_.end()) return nullptr;
  if (at->second.cancelled) throw_error("receive: call cancelled twice", errc::malformed);
  at->second.cancelled = true;
  return at->second.signal.lock();
}

COHORT_INLINE bool call_book::is_cancelled(std::uint64_t id) const {
  const auto at = answering_.find(id);
  return at != answering_.end() && at->second.cancelled;
}

}  // namespace cohort::detail
