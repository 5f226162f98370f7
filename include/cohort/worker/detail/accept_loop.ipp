// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "accept_loop.hpp"

#include "../../core/config.hpp"

#include <system_error>

#include "../../core/descriptor.hpp"

namespace cohort::detail {

COHORT_INLINE void accept_loop::add(key which, std::shared_ptr<acceptor> on) {
  close(which);
  listeners_[which] = on;
  start_(accept_on(std::move(on)));
}

COHORT_INLINE void accept_loop::close(key which) {
  const auto at = listeners_.find(which);
  if (at == listeners_.end()) return;
  at->second->close();
  listeners_.erase(at);
  room_.notify();
}

COHORT_INLINE void accept_loop::close_all() {
  for (const auto& each : listeners_) each.second->close();
  listeners_.clear();
  room_.notify();
}

COHORT_INLINE asio::awaitable<void> accept_loop::accept_on(std::shared_ptr<acceptor> on) {
  // Few at a time: other workers wait at the same queue, and the connections here want their turn.
  constexpr int at_a_time = 8;
  while (on->is_open()) {
    bool shortage = false;
    try {
      while (!has_room_() && on->is_open()) co_await room_.wait();
      if (on->is_open()) co_await on->wait();
      if (emptying_) co_return;
      for (int i = 0; i < at_a_time && on->is_open() && has_room_(); ++i) {
        descriptor accepted = on->try_accept();
        if (!accepted && on->ended()) co_return;
        if (!accepted) break;
        serve_(any_handle(on->accepts(), std::move(accepted)));
      }
    } catch (const std::system_error& error) {
      if (!on->is_open()) co_return;
      if (!acceptor::is_shortage(error.code())) throw;
      shortage = true;
    }
    if (shortage) co_await on->pause();
  }
}

COHORT_INLINE bool accept_loop::accept_all(acceptor& on) {
  try {
    while (descriptor accepted = on.try_accept()) serve_(any_handle(on.accepts(), std::move(accepted)));
  } catch (const std::system_error& error) {
    return !acceptor::is_shortage(error.code());  // of one that is broken nothing can be saved
  }
  return true;
}

COHORT_INLINE asio::awaitable<void> accept_loop::accept_rest(std::shared_ptr<acceptor> on) {
  bool all = false;
  while (!all) {
    co_await on->pause();  // which ends that of accept_on(), if there is one
    all = accept_all(*on);
  }
  on->close();
}

}  // namespace cohort::detail
