// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <memory>
#include <system_error>

#include "../../core/asio.hpp"
#include "../../core/event.hpp"
#include "outbox.hpp"

namespace cohort {

class link;

namespace detail {

/// Writes what is queued in a link: when it writes, what it does when the socket is full, and who waits for that.
///
/// A part of the link, on the link's executor. A write that has to go on later keeps the link alive until then.
class write_pump {
 public:
  using ticket = outbox::ticket;

  explicit write_pump(link& owner, const asio::any_io_executor& executor);

  write_pump(const write_pump&) = delete;
  write_pump& operator=(const write_pump&) = delete;

  /// What waits to be written.
  outbox& queue() noexcept { return queue_; }
  const outbox& queue() const noexcept { return queue_; }

  /// Writes what is queued as far as the socket takes it; the rest follows by itself.
  void flush_now();

  /// Writes what is queued in a later turn of the loop, so that all of this turn goes in one call.
  void flush_soon();

  /// Has a write that waits look again.
  void look_again();

  /// Rings after a while the bell that the kernel has refused.
  void ring_later();

  /// See link::written().
  static asio::awaitable<void> written(std::shared_ptr<link> self, const char* step, ticket which, bool take_back);

  /// See link::disconnect().
  static asio::awaitable<void> disconnect(std::shared_ptr<link> self);

  /// Whether disconnect() has been called.
  bool is_disconnected() const noexcept { return disconnected_; }

  /// Why nothing can be written any more; none as long as something can.
  const std::error_code& error() const noexcept { return error_; }

  /// Nothing can be written any more.
  void fail(std::error_code why) noexcept { error_ = why; }

  /// Ends the waiting for a kernel that is short of memory.
  void stop_waiting() { retry_.cancel(), ring_again_.cancel(); }

  /// Has everybody look again at what they wait for.
  void wake_all() { progress_.notify(); }

 private:
  void write();
  void resume_when_there_is_room();
  void resume_when(asio::posix::stream_descriptor::wait_type what);
  void resume_next_turn();
  void resume_later();

  link& owner_;
  outbox queue_;
  asio::steady_timer retry_;
  asio::steady_timer ring_again_;
  event progress_;  // something was written, or nothing will be
  std::error_code error_;
  ticket goodbye_ = 0;
  bool writing_ = false;  // the rest goes out when the socket or the kernel has room
  bool flush_posted_ = false;
  bool disconnected_ = false;
};

}  // namespace detail
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "link.hpp"  // with the bodies, which need the whole of it
#endif
