// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/error.hpp"
#include "../../worker/protocol.hpp"
#include "../../schedule/runner.hpp"
#include "../../schedule/schedule.hpp"
#include "worker_process.hpp"

namespace cohort {

/// Where the schedules of a cluster are run: its workers and agents.
///
/// Distinct objects: safe. Shared objects: unsafe.
class schedule_executor {
 public:
  using worker_ptr = std::shared_ptr<worker_process>;

  /// `ended(const schedule_result&)` hears of each run.
  schedule_executor(const std::vector<worker_ptr>& workers, const std::vector<worker_ptr>& agents,
                        std::function<void(const schedule_result&)> ended)
      : workers_(workers), agents_(agents), ended_(std::move(ended)) {}

  std::vector<unsigned> workers() const {
    std::vector<unsigned> slots;
    for (const auto& each : workers_) {
      if (each->is_serving()) slots.push_back(each->number());
    }
    return slots;
  }

  asio::awaitable<void> perform(const schedule& what, unsigned slot) {
    const worker_ptr who = slot == 0 ? find_agent(what.agent()) : find_worker(slot);
    const char* const nobody = slot == 0 ? "there is no agent" : "the worker is gone";
    if (!who || !who->peer.is_open()) throw_error(nobody, errc::peer_closed);
    worker_protocol::start_job order;
    order.schedule = what.name();
    const auto answer = co_await who->peer.call<worker_protocol::job_result>(order);
    if (answer.refused) throw_error("the worker is on its way out", errc::peer_closed);
    if (answer.what) throw std::runtime_error(*answer.what);
  }

  void ended(const schedule_result& result) { ended_(result); }

 private:
  worker_ptr find_worker(unsigned slot) const {
    for (const auto& each : workers_) {
      if (each->number() == slot && each->is_serving()) return each;
    }
    return nullptr;
  }

  worker_ptr find_agent(const std::string& name) const {
    for (const auto& each : agents_) {
      if (each->state() == worker_state::ready && (name.empty() || each->agent == name)) return each;
    }
    return nullptr;
  }

  const std::vector<worker_ptr>& workers_;
  const std::vector<worker_ptr>& agents_;
  std::function<void(const schedule_result&)> ended_;
};

}  // namespace cohort
