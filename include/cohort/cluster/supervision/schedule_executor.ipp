// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "schedule_executor.hpp"

#include "../../core/config.hpp"

#include <stdexcept>

#include "../../worker/protocol.hpp"

namespace cohort {

COHORT_INLINE std::vector<unsigned> schedule_executor::workers() const {
  std::vector<unsigned> slots;
  for (const auto& each : workers_) {
    if (each->is_serving()) slots.push_back(each->number());
  }
  return slots;
}

COHORT_INLINE asio::awaitable<void> schedule_executor::perform(const schedule& what, unsigned slot) {
  const worker_ptr who = slot == 0 ? find_agent(what.agent()) : find_worker(slot);
  const char* const nobody = slot == 0 ? "there is no agent" : "the worker is gone";
  if (!who || !who->peer.is_open()) throw_error(nobody, errc::peer_closed);
  worker_protocol::start_job order;
  order.schedule = what.name();
  const auto answer = co_await who->peer.call<worker_protocol::job_result>(order);
  if (answer.refused) throw_error("the worker is on its way out", errc::peer_closed);
  if (answer.what) throw std::runtime_error(*answer.what);
}

COHORT_INLINE schedule_executor::worker_ptr schedule_executor::find_worker(unsigned slot) const {
  for (const auto& each : workers_) {
    if (each->number() == slot && each->is_serving()) return each;
  }
  return nullptr;
}

COHORT_INLINE schedule_executor::worker_ptr schedule_executor::find_agent(const std::string& name) const {
  for (const auto& each : agents_) {
    if (each->state() == worker_state::ready && (name.empty() || each->agent == name)) return each;
  }
  return nullptr;
}

}  // namespace cohort
