// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "schedule_executor.hpp"

#include <stdexcept>
#include <utility>

#include "../../core/config.hpp"
#include "../../core/error.hpp"
#include "../../core/text_of.hpp"
#include "../../worker/protocol.hpp"

namespace cohort {

COHORT_INLINE schedule_executor::schedule_executor(const worker_set& workers, const worker_set& agents,
                                                   std::function<void(const schedule_result&)> ended)
    : workers_(workers), agents_(agents), ended_(std::move(ended)) {}

COHORT_INLINE std::vector<unsigned> schedule_executor::workers() const {
  std::vector<unsigned> slots;
  for (const auto& each : workers_) {
    if (each->is_serving()) slots.push_back(each->number());
  }
  return slots;
}

COHORT_INLINE asio::awaitable<void> schedule_executor::perform(const schedule& what, unsigned slot) {
  const worker_ptr who = slot == 0 ? agents_.ready_agent(what.agent()) : workers_.serving_in(slot);
  const char* const nobody = slot == 0 ? "there is no agent" : "the worker is gone";
  if (!who || !who->peer.is_open()) throw_error(nobody, errc::peer_closed);
  worker_protocol::start_job order;
  order.schedule = what.name();
  const auto answer = co_await who->peer.call<worker_protocol::job_result>(order);
  if (answer.refused) throw_error("the worker is on its way out", errc::peer_closed);
  if (answer.what) throw std::runtime_error(detail::one_line(*answer.what));
}

}  // namespace cohort
