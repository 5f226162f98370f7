// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../core/event.hpp"
#include "../codec/byte_buffer.hpp"
#include "../channel_options.hpp"
#include "call_book.hpp"
#include "encoded_message.hpp"
#include "inbox.hpp"
#include "lease_window.hpp"
#include "outbox.hpp"
#include "frame.hpp"
#include "../codec/schema.hpp"

namespace cohort {

/// Frames and descriptors between two processes, on a loop: what `channel` gives types to.
///
/// Nothing runs in the background but the writing of what has been queued. Whoever waits for input reads; one at a
/// time, and hands over to the next when it leaves. Held by shared_ptr, so that an operation outlives the channel it
/// came from.
class link : public std::enable_shared_from_this<link> {
 public:
  using ticket = detail::outbox::ticket;
  using negotiator = negotiation (*)(const hello&);

  /// `names` are those of the types that this side sends, by number.
  link(asio::any_io_executor executor, descriptor socket, const channel_options& options, negotiator negotiate,
       std::span<const std::string_view> names);

  link(const link&) = delete;
  link& operator=(const link&) = delete;

  asio::any_io_executor get_executor() { return stream_.get_executor(); }
  const channel_options& options() const noexcept { return options_; }
  int native_handle() { return stream_.native_handle(); }
  bool is_open() const noexcept { return !closed_ && !broken_; }

  /// Queues this side's hello, which must be the first frame, and lets it go out.
  void greet(const hello& mine);

  /// The peer's hello, once it has been read.
  const std::optional<hello>& peer_hello() const noexcept { return peer_hello_; }
  const negotiation& agreed() const noexcept { return agreed_; }

  // -- sending ----------------------------------------------------------------------------------------------------

  detail::outbox& out() noexcept { return outbox_; }

  /// Throws what stands in the way of sending message number `type`.
  void check_sendable(const char* step, std::size_t type);

  /// Throws errc::message_too_large unless both sides take a message of `size` bytes, and it is not above `most`.
  void check_size(const char* step, std::size_t type, std::size_t size, std::size_t most = ~std::size_t{0}) const;

  /// See channel::poll_for().
  void poll_for(std::chrono::nanoseconds time) noexcept { poll_time_ = time; }

  /// Writes what is queued as far as the socket takes it; the rest follows by itself.
  void flush_now();

  /// Writes what is queued in a later turn of the loop, so that all of this turn goes in one call.
  void flush_soon();

  /// Waits until the kernel has message `which` whole.
  ///
  /// With `take_back`, cancelling before a byte of it is with the kernel takes it back and throws operation_aborted;
  /// after that the message is sent, the rest of it by itself, and this returns. Without, cancelling ends the waiting
  /// alone.
  static asio::awaitable<void> written(std::shared_ptr<link> self, const char* step, ticket which, bool take_back);

  /// Queues a message of type number `type` (u16 type, or an envelope, and encoding) and waits until the kernel has the
  /// whole of it; `together`: with what else is queued in this turn. Cancelling takes it back, see written().
  static asio::awaitable<void> send(std::shared_ptr<link> self, const char* step, std::size_t type,
                                    detail::encoded_message message, bool together = false);

  /// Whether anything can still be sent.
  bool is_writable() const noexcept { return !closed_ && !disconnected_ && !broken_ && !write_error_; }

  static void check_open(const std::shared_ptr<link>& self, const char* step);

  /// Ends this side's messages: nothing more can be sent; what is queued goes out, then a goodbye.
  static asio::awaitable<void> disconnect(std::shared_ptr<link> self);

  // -- leases: handles on their way out ------------------------------------------------------------------------------

  /// Gives descriptors to the peer with a message, and waits until the application there has taken them.
  ///
  /// The message begins behind `head` bytes, of which the first 8 are for the number of the lease. Throws
  /// errc::peer_closed, handle_refused, handle_lost, wrong_handle_kind, unknown_message; in each of these cases the peer
  /// does not have them. Cancelling throws operation_aborted; when the lease was on its way the peer is told to drop it,
  /// which it does unless the application has it already.
  static asio::awaitable<void> lease(std::shared_ptr<link> self, const char* step, std::size_t type, wire::kind kind,
                                     byte_buffer payload, std::size_t head, std::span<const int> fds);

  // -- calls ----------------------------------------------------------------------------------------------------------

  detail::call_book& calls() noexcept { return calls_; }

  /// Waits until there is an answer to a call, or none will come.
  static asio::awaitable<void> wait_answer(std::shared_ptr<link> self, detail::call_book::waiting& call);

  /// Waits until a request has been read or none will come.
  static asio::awaitable<void> wait_request(std::shared_ptr<link> self);

  // -- receiving ----------------------------------------------------------------------------------------------------

  detail::inbox& in() noexcept { return inbox_; }

  /// Nothing more will come: the peer has said goodbye or is gone, or this side is closed or broken.
  bool messages_ended() const noexcept { return said_goodbye_ || input_ended(); }

  /// Throws if the input has not ended as it should: this side broke it off, or the peer died inside a message.
  void check_end(const char* step) const;

  /// Waits until a message has been read or none will come.
  static asio::awaitable<void> wait_message(std::shared_ptr<link> self);

  /// Waits until a handle has been read or none will come.
  static asio::awaitable<void> wait_lease(std::shared_ptr<link> self);

  /// Drops the first message and lets those go on reading whom a full inbox has stopped.
  void pop_message();

  /// Drops a message that has been taken out of the inbox, a request or an answer; as pop_message().
  void drop(detail::inbox::stored& message);

  /// Takes the first handle; as pop_message().
  detail::arrived_lease pop_lease();

  void adopt(std::uint64_t id);

  void refuse(std::uint64_t id, wire::refusal reason);

  /// Gives back what handles have arrived and not been taken, and those that come later.
  void decline_leases();

  // -- the end -------------------------------------------------------------------------------------------------------

  /// Closes at once. Who waits ends with operation_aborted or errc::closed; handles not taken go back to the peer.
  void close();

  /// Breaks the link because of a message that the peer has sent, drops what came after it, and throws `why`.
  [[noreturn]] void reject(std::exception_ptr why);

  // What the inbox reports; see inbox::read.

  void on_hello(const char* data, std::size_t size);

  void on_adopted(std::uint64_t id) { settle(id, lease_state::adopted, wire::refusal::declined); }

  void on_refused(std::uint64_t id, wire::refusal reason) { settle(id, lease_state::refused, reason); }

  void on_revoked(std::uint64_t id);

  bool on_parcel(const detail::arrived_parcel& parcel);

  void on_answer(wire::envelope what, std::uint64_t id, detail::inbox::stored content);

  void on_cancel(std::uint64_t id);

  void on_goodbye();

  void on_lease(detail::arrived_lease lease);

 private:
  using lease_state = detail::lease_window::state;

  // Messages read ahead on behalf of somebody who waits for something else: no more than this, in bytes.
  static constexpr std::size_t inbox_limit = 4 * 1024 * 1024;

  static constexpr unsigned reads_a_turn = 16;  // of 256 KiB at most

  struct reading_guard {
    link& owner;
    ~reading_guard() { owner.reading_ = false; }
  };

  struct leaving_guard {
    link& owner;
    ~leaving_guard();
  };

  struct waiting_guard {
    link& owner;
    event* mine;
    waiting_guard(link& l, event& e) : owner(l), mine(&e) { owner.waiting_.push_back(mine); }
    waiting_guard(const waiting_guard&) = delete;
    ~waiting_guard() { owner.waiting_.erase(std::find(owner.waiting_.begin(), owner.waiting_.end(), mine)); }
  };

  static errc error_of(wire::refusal reason) noexcept;

  bool input_ended() const noexcept { return ended_ || closed_ || broken_; }
  bool is_full() const noexcept;

  /// Waits until `ready()`, reading as long as nobody else does.
  template <class Ready>
  static asio::awaitable<void> wait_input(std::shared_ptr<link> self, event& changed, Ready ready) {
    const leaving_guard leaves{*self};
    while (!ready()) {
      if (self->reading_ || self->is_full()) {
        const waiting_guard waits(*self, changed);
        co_await changed.wait();
        continue;
      }
      if (self->reads_++ == reads_a_turn) {  // a peer that writes as fast as this reads would else hold the loop
        self->reads_ = 0;
        co_await asio::post(self->get_executor(), asio::use_awaitable);
        continue;
      }
      if (self->read_once() || self->poll()) continue;
      self->reads_ = 0;
      self->reading_ = true;
      std::error_code error;
      {
        const reading_guard reads{*self};
        co_await self->stream_.async_wait(asio::posix::stream_descriptor::wait_read,
                                          asio::redirect_error(asio::use_awaitable, error));
        self->drained_ = false;
      }
      if (!error || ready()) continue;
      throw_error("receive", error);
    }
  }

  /// Looks again and again for as long as poll_for() says; false when nothing has come.
  bool poll();

  /// Reads what is there; false when nothing is. Failures break the link and count as news.
  bool read_once();

  /// The peer is not to be believed any more, and sees the end of the stream. Messages that came before can be taken.
  void break_off(std::exception_ptr why);

  void settle(std::uint64_t id, lease_state answer, wire::refusal reason);

  void pass_on_reading();

  void wake_all();

  void resume_when_writable();

  void resume_next_turn();

  void resume_later();

  channel_options options_;
  std::chrono::nanoseconds poll_time_{0};
  negotiator negotiate_;
  std::span<const std::string_view> names_;
  asio::posix::stream_descriptor stream_;
  asio::steady_timer retry_;
  event progress_;  // something was written, or nothing will be
  event messages_changed_;
  event requests_changed_;
  event leases_changed_;
  detail::outbox outbox_;
  detail::inbox inbox_;
  std::vector<event*> waiting_;  // of those who wait while somebody else reads
  detail::lease_window given_;
  detail::call_book calls_;
  ticket goodbye_ = 0;
  std::optional<hello> peer_hello_;
  negotiation agreed_;
  std::exception_ptr broken_;
  std::error_code write_error_;
  unsigned reads_ = 0;  // since somebody last waited for input
  bool reading_ = false;
  bool drained_ = false;  // the last read took all there was
  bool writing_ = false;  // the rest goes out when the socket or the kernel has room
  bool flush_posted_ = false;
  bool disconnected_ = false;
  bool said_goodbye_ = false;
  bool ended_ = false;
  bool closed_ = false;
  bool declining_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "link.ipp"
#endif
