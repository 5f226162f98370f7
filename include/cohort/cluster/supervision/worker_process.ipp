// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "worker_process.hpp"

#include <cassert>
#include <string>
#include <system_error>
#include <utility>

#include <signal.h>

#include "../../core/config.hpp"

#include "../../core/asio_error.hpp"

namespace cohort {

COHORT_INLINE worker_process::worker_process(const asio::any_io_executor& executor, unsigned number,
                                             unsigned generation, const delivery_options& how)
    : deliveries(executor, how), deadline_(executor), number_(number), generation_(generation) {}

COHORT_INLINE member worker_process::as_member() const {
  member who;
  who.slot = number_;
  who.pid = peer.pid();
  who.agent = agent;
  return who;
}

COHORT_INLINE void worker_process::enter(worker_state next) {
  assert(may_follow(state_, next));
  state_ = next;
  if (next == worker_state::starting) started_ = clock::now();
  if (next == worker_state::ready) ready_since = clock::now();
  deadline_.cancel();
}

COHORT_INLINE std::size_t worker_process::open() const noexcept {
  return figures.leased > figures.ended ? static_cast<std::size_t>(figures.leased - figures.ended) : 0;
}

COHORT_INLINE void worker_process::limit_state(std::chrono::milliseconds limit) {
  deadline_.expires_after(limit);
  deadline_.async_wait([self = shared_from_this(), expected = state_](std::error_code error) {
    if (!error && self->state_ == expected) self->kill(end_cause::timed_out);
  });
}

COHORT_INLINE void worker_process::kill(end_cause why) {
  if (peer.process() && !end.cause) end.cause = why;
  signal(SIGKILL);
}

COHORT_INLINE void worker_process::signal(int signal_number) {
  if (!peer.process()) return;
  std::string why;
  try {
    peer.signal(signal_number);
    return;
  } catch (...) {
    const auto error = detail::caught();
    why = error.what();
  }
  // Its end is waited for all the same.
  if (::kill(peer.pid(), signal_number) == 0) why += "; kill(2) has done it";
  if (const auto tell = std::exchange(on_refused_signal, nullptr)) tell(why);
}

COHORT_INLINE asio::awaitable<void> worker_process::wait(std::chrono::milliseconds pause) {
  deadline_.expires_after(pause);
  detail::asio_error ignored;
  co_await deadline_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

}  // namespace cohort
