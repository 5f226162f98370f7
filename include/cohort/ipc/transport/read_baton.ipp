// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "read_baton.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <exception>
#include <system_error>
#include <utility>

#include "../../core/asio_error.hpp"
#include "../../core/error.hpp"
#include "../../core/scope.hpp"
#include "link.hpp"

namespace cohort::detail {

COHORT_INLINE asio::awaitable<void> read_baton::wait(std::shared_ptr<link> self, event& changed,
                                                     std::function<bool()> ready) {
  read_baton& baton = self->reads();
  const on_exit leaves([&baton] {
    if (!baton.held_) baton.pass_on();
  });
  while (!ready()) {
    if (baton.held_ || self->is_full()) {
      baton.waiting_.push_back(&changed);
      const on_exit waits([&baton, &changed] {  // once: others may wait for the same
        baton.waiting_.erase(std::find(baton.waiting_.begin(), baton.waiting_.end(), &changed));
      });
      co_await changed.wait();
      continue;
    }
    if (baton.reads_++ == reads_a_turn) {  // a peer that writes as fast as this reads would else hold the loop
      baton.reads_ = 0;
      co_await asio::post(self->get_executor(), asio::use_awaitable);
      continue;
    }
    if (baton.read_once() || baton.poll() || !self->bytes().may_wait_for_input()) continue;
    baton.reads_ = 0;
    baton.held_ = true;
    asio_error error;
    {
      const on_exit reads([&baton] { baton.held_ = false; });
      co_await self->socket().async_wait(asio::posix::stream_descriptor::wait_read,
                                         asio::redirect_error(asio::use_awaitable, error));
      baton.drained_ = false;
      if (self->bytes().end_wait_for_input()) self->writes().look_again();
    }
    if (!error || ready()) continue;
    if (error == operation_aborted()) {  // unless somebody cancels this, it is to look again
      const auto cancelled = co_await asio::this_coro::cancellation_state;
      if (cancelled.cancelled() == asio::cancellation_type::none) continue;
    }
    throw_error("receive", error);
  }
}

COHORT_INLINE bool read_baton::read_once() {
  if (owner_.state().input_ended()) return true;
  if (std::exchange(drained_, false)) return false;
  try {
    switch (owner_.in().read(owner_.bytes(), owner_)) {
      case inbox::outcome::empty: return false;
      case inbox::outcome::drained: drained_ = true; break;
      case inbox::outcome::data: break;
      case inbox::outcome::end: owner_.on_end(); return true;
    }
    if (is_wanted()) owner_.on_read();
    if (!owner_.bytes().ring_due()) owner_.writes().ring_later();
  } catch (...) {
    owner_.break_off(std::current_exception());
  }
  return true;
}

COHORT_INLINE void read_baton::look_again() {
  if (held_) owner_.socket().cancel();
}

COHORT_INLINE void read_baton::pass_on() {
  if (!waiting_.empty()) waiting_.front()->notify();
}

COHORT_INLINE bool read_baton::poll() {
  if (poll_time_.count() == 0) return false;
  const auto end = std::chrono::steady_clock::now() + poll_time_;
  do {
    if (read_once()) return true;
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

}  // namespace cohort::detail
