// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "accept_loop.hpp"

#include "../../core/config.hpp"

#include <cstddef>
#include <limits>
#include <system_error>

#include "../../core/asio_error.hpp"
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

COHORT_INLINE void accept_loop::accept_what_waits(const std::function<void(asio::awaitable<void>)>& wait) {
  emptying_ = true;
  std::erase_if(listeners_, [&](const auto& each) {
    if (accept_all(*each.second)) return false;
    wait(accept_rest(each.second));
    return true;
  });
}

COHORT_INLINE acceptor::taker accept_loop::server_of(const acceptor& on) const {
  return [this, kind = on.accepts()](descriptor accepted) { serve_(any_handle(kind, std::move(accepted))); };
}

COHORT_INLINE asio::awaitable<void> accept_loop::accept_on(std::shared_ptr<acceptor> on) {
  // Few at a time: other workers wait at the same queue, and the connections here want their turn.
  constexpr std::size_t at_a_time = 8;
  const acceptor::taker serve = server_of(*on);
  const acceptor::condition wanted = [this] { return !emptying_ && has_room_(); };
  auto result = accept_result::more;
  while (result != accept_result::ended && !emptying_) {
    while (!has_room_() && on->is_open()) co_await room_.wait();
    result = co_await on->accept_some(at_a_time, serve, wanted);
  }
}

COHORT_INLINE bool accept_loop::accept_all(acceptor& on) {
  constexpr auto all = std::numeric_limits<std::size_t>::max();
  try {
    return on.accept_waiting(all, server_of(on), [] { return true; }) != accept_result::shortage;
  } catch (...) {
    caught();
    return true;  // of one that is broken nothing can be saved
  }
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
