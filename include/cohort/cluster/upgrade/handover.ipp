// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "handover.hpp"

#include <chrono>
#include <system_error>

#include <signal.h>
#include <unistd.h>

#include <fmt/format.h>

#include "../../core/asio_error.hpp"
#include "../../core/config.hpp"
#include "../../core/error.hpp"
#include "../../core/scope.hpp"
#include "../../core/timeout.hpp"

namespace cohort {

COHORT_INLINE asio::awaitable<upgrade_result> handover::upgrade(
    std::vector<std::pair<std::string, std::string>> environment) {
  upgrade_result result;
  const rolling_update::update_lock mine = co_await updates_.lock();
  if (context_.leaving) result.reason = rolling_update::stopping_text;
  if (::getpid() == 1) result.reason = "process 1 cannot be replaced";
  successor_peer successor;
  if (result.success()) {
    try {
      successor = co_await start(std::move(environment));
      result.pid = successor.pid();
    } catch (...) {
      const auto error = detail::caught();
      if (error.code() == operation_aborted()) throw;
      result.reason = error.what();
    }
  }
  if (result.success()) {
    context_.emit(cluster_event(cluster_event::kind::upgrading, 0, result.pid));
    successor_ = &successor;  // on_stop() finds it while it is not ready
    const detail::on_exit forget([this] { successor_ = nullptr; });
    result.reason = co_await hand_over_to(successor);
  }
  if (result.success()) {
    successor.process().detach();
    context_.emit(cluster_event(cluster_event::kind::upgraded, 0, result.pid));
    co_return result;
  }
  if (successor.process()) {
    const exit_status status = co_await end(successor);
    result.reason += fmt::format(": primary {} {}", result.pid, status);
  }
  context_.emit(cluster_event(cluster_event::kind::upgrade_failed, 0, result.pid, result.reason));
  co_return result;
}

COHORT_INLINE asio::awaitable<handover::successor_peer> handover::start(
    std::vector<std::pair<std::string, std::string>> environment) {
  auto program = workers_.generations().program.on_disk().start();
  program.die_with_parent(false).process_group(process_group::inherit).env(upgrade::variable, "1");
  for (const auto& [name, value] : environment) program.env(name, value);
  auto successor = co_await spawn<upgrade::protocol>(std::move(program));
  co_return successor;
}

COHORT_INLINE asio::awaitable<std::string> handover::hand_over_to(successor_peer& successor) {
  const auto& options = context_.options;
  try {
    co_await listeners_.hand_over(successor);
    upgrade::begin last;
    last.generation = workers_.generations().current;
    if (workers_.size() != options.worker_count()) last.workers = workers_.size();
    co_await successor.send(last);
    const auto limit = options.start_timeout + primary_context::kill_after;
    const auto word = co_await with_timeout(successor.receive(), limit);
    if (word) {
      listeners_.release(word->texts);
      co_return std::string();
    }
  } catch (...) {
    const auto error = detail::caught();
    if (error.code() == operation_aborted()) throw;
    if (error.code() != errc::peer_closed) co_return error.what();
  }
  co_return context_.leaving ? rolling_update::stopping_text : std::string("it did not get ready");
}

COHORT_INLINE asio::awaitable<exit_status> handover::end(successor_peer& successor) {
  exit_status status;
  bool ended = true;
  successor.close();
  try {
    status = co_await with_timeout(successor.wait(), std::chrono::seconds(1));
  } catch (...) {
    const auto error = detail::caught();
    if (error.code() == operation_aborted()) throw;
    ended = false;
  }
  if (!ended) status = co_await successor.stop();
  co_return status;
}

COHORT_INLINE void handover::on_stop() {
  if (successor_ != nullptr) successor_->signal(SIGTERM);
}

COHORT_INLINE asio::awaitable<void> handover::succeed(upgrade::predecessor& predecessor) {
  co_await predecessor.dismiss(listeners_.take_over());
}

}  // namespace cohort
