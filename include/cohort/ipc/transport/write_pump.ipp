// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "write_pump.hpp"

#include "../../core/config.hpp"

#include <cerrno>
#include <chrono>
#include <exception>
#include <new>

#include <sys/socket.h>

#include "../../core/asio_error.hpp"
#include "../../core/error.hpp"
#include "link.hpp"

namespace cohort::detail {

COHORT_INLINE write_pump::write_pump(link& owner, const asio::any_io_executor& executor)
    : owner_(owner), retry_(executor), ring_again_(executor), progress_(executor) {}

COHORT_INLINE void write_pump::flush_now() {
  if (owner_.state().closed || writing_ || error_) return;
  const bool stopped_reading = owner_.is_full();
  const auto before = queue_.completed();
  write();
  if (queue_.completed() != before || error_) progress_.notify();
  if (stopped_reading && !owner_.is_full()) owner_.reads().pass_on();
  if (!error_) owner_.on_flushed();
}

COHORT_INLINE void write_pump::write() {
  const auto outcome = queue_.write(owner_.bytes());
  const int error = errno;
  if (queue_.has_refused()) {
    owner_.on_handles_refused(queue_.take_refused());
    owner_.socket().cancel();  // the sender itself may be who waits for input; nobody waits to write here
  }
  switch (outcome) {
    case outbox::outcome::done: break;
    case outbox::outcome::blocked: resume_when_there_is_room(); break;
    case outbox::outcome::more: resume_next_turn(); break;
    case outbox::outcome::starved: resume_later(); break;
    case outbox::outcome::failed:
      if (error == EPROTO) return owner_.break_off_malformed("send: positions of a ring that cannot be");
      error_ = error == EPIPE || error == ECONNRESET ? make_error_code(errc::peer_closed)
                                                     : std::error_code(error, std::system_category());
      ::shutdown(owner_.native_handle(), SHUT_WR);  // the peer is not to wait for the rest
      owner_.on_write_failed();
  }
}

COHORT_INLINE void write_pump::flush_soon() {
  if (flush_posted_ || writing_ || owner_.state().closed) return;
  try {
    asio::post(owner_.get_executor(), [this, alive = owner_.shared_from_this()] {
      flush_posted_ = false;
      flush_now();
    });
    flush_posted_ = true;
  } catch (const std::bad_alloc&) {  // nobody else would write what is queued
    flush_now();
  }
}

COHORT_INLINE asio::awaitable<void> write_pump::written(std::shared_ptr<link> self, const char* step, ticket which,
                                                        bool take_back) {
  write_pump& pump = self->writes();
  while (pump.queue_.completed() < which) {
    const link_state& state = self->state();
    if (state.closed) throw_error(step, errc::closed);
    if (state.broken) std::rethrow_exception(state.broken);
    if (pump.error_) throw_error(step, pump.error_);
    try {
      co_await pump.progress_.wait();
    } catch (...) {
      caught();
      if (pump.queue_.completed() >= which) co_return;
      if (!take_back || pump.queue_.withdraw(which)) throw;
      co_return;
    }
  }
}

COHORT_INLINE asio::awaitable<void> write_pump::disconnect(std::shared_ptr<link> self) {
  link::check_open(self, "disconnect");
  write_pump& pump = self->writes();
  if (self->state().closed || pump.error_) co_return;
  if (!pump.disconnected_) {
    pump.disconnected_ = true;
    pump.goodbye_ = pump.queue_.append(wire::kind::goodbye, byte_buffer());
    self->wake_lending();
  }
  pump.flush_now();
  while (pump.queue_.completed() < pump.goodbye_ && !self->state().closed && !pump.error_) {
    co_await pump.progress_.wait();
  }
}

COHORT_INLINE void write_pump::ring_later() {
  ring_again_.expires_after(std::chrono::milliseconds(2));
  ring_again_.async_wait([this, alive = owner_.shared_from_this()](std::error_code error) {
    if (!error && !owner_.bytes().ring_due()) ring_later();
  });
}

COHORT_INLINE void write_pump::resume_when_there_is_room() {
  switch (owner_.bytes().wait_for_room()) {
    case byte_transport::room_wait::writable: return resume_when(asio::posix::stream_descriptor::wait_write);
    case byte_transport::room_wait::readable: return resume_when(asio::posix::stream_descriptor::wait_read);
    case byte_transport::room_wait::none: return resume_next_turn();
    case byte_transport::room_wait::later:
      // What comes next may be the peer's ring, and flush_now() reads what there is.
      if (owner_.bytes().awaits_ring() && !owner_.is_full())
        return resume_when(asio::posix::stream_descriptor::wait_read);
      return resume_later();
  }
}

COHORT_INLINE void write_pump::resume_when(asio::posix::stream_descriptor::wait_type what) {
  owner_.socket().async_wait(what, [this, alive = owner_.shared_from_this()](std::error_code) {  // look_again(), too
    writing_ = false;
    if (owner_.state().closed) return;
    if (owner_.bytes().hear_bells()) owner_.reads().look_again();
    flush_now();
  });
  writing_ = true;  // not before: there may have been no memory for it
}

COHORT_INLINE void write_pump::look_again() {
  if (writing_) owner_.socket().cancel();
}

COHORT_INLINE void write_pump::resume_next_turn() {
  asio::post(owner_.get_executor(), [this, alive = owner_.shared_from_this()] {
    writing_ = false;
    flush_now();
  });
  writing_ = true;
}

COHORT_INLINE void write_pump::resume_later() {
  retry_.expires_after(std::chrono::milliseconds(2));
  retry_.async_wait([this, alive = owner_.shared_from_this()](std::error_code error) {
    writing_ = false;
    if (!error) flush_now();
  });
  writing_ = true;
}

}  // namespace cohort::detail
