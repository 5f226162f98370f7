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
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
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
       std::span<const std::string_view> names)
      : options_(options),
        negotiate_(negotiate),
        names_(names),
        stream_(executor),
        retry_(executor),
        progress_(executor),
        messages_changed_(executor),
        requests_changed_(executor),
        leases_changed_(executor),
        inbox_(options.max_message),
        given_(options.max_leases) {
    stream_.assign(socket.get());
    (void)socket.release();
  }

  link(const link&) = delete;
  link& operator=(const link&) = delete;

  asio::any_io_executor get_executor() { return stream_.get_executor(); }
  const channel_options& options() const noexcept { return options_; }
  int native_handle() { return stream_.native_handle(); }
  bool is_open() const noexcept { return !closed_ && !broken_; }

  /// Queues this side's hello, which must be the first frame, and lets it go out.
  void greet(const hello& mine) {
    byte_buffer payload;
    encode(payload, mine);
    outbox_.control(wire::kind::hello, payload.data(), payload.size());
    flush_now();
    if (!peer_hello_) read_once();  // the peer's lies there already when it was here first
  }

  /// The peer's hello, once it has been read.
  const std::optional<hello>& peer_hello() const noexcept { return peer_hello_; }
  const negotiation& agreed() const noexcept { return agreed_; }

  // -- sending ----------------------------------------------------------------------------------------------------

  detail::outbox& out() noexcept { return outbox_; }

  /// Throws what stands in the way of sending message number `type`.
  void check_sendable(const char* step, std::size_t type) {
    if (closed_ || disconnected_) throw_error(step, errc::closed);
    if (broken_) std::rethrow_exception(broken_);
    if (write_error_) throw_error(step, write_error_);
    if (peer_hello_ && !agreed_.outgoing[type]) {
      throw_error(std::string(step).append(": ").append(names_[type]), errc::unknown_message);
    }
  }

  /// Throws errc::message_too_large unless both sides take a message of `size` bytes, and it is not above `most`.
  void check_size(const char* step, std::size_t type, std::size_t size, std::size_t most = ~std::size_t{0}) const {
    most = std::min<std::size_t>(most, options_.max_message);
    if (peer_hello_) most = std::min<std::size_t>(most, peer_hello_->max_message);
    if (size <= most) return;
    throw_error(std::string(step).append(": ").append(names_[type]) + " of " + std::to_string(size) +
                    " bytes, at most " + std::to_string(most),
                errc::message_too_large);
  }

  /// See channel::poll_for().
  void poll_for(std::chrono::nanoseconds time) noexcept { poll_time_ = time; }

  /// Writes what is queued as far as the socket takes it; the rest follows by itself.
  void flush_now() {
    if (closed_ || writing_ || write_error_) return;
    const auto before = outbox_.completed();
    const auto outcome = outbox_.write(stream_.native_handle());
    switch (outcome) {
      case detail::outbox::outcome::done: break;
      case detail::outbox::outcome::blocked: resume_when_writable(); break;
      case detail::outbox::outcome::more: resume_next_turn(); break;
      case detail::outbox::outcome::starved: resume_later(); break;
      case detail::outbox::outcome::failed:
        write_error_ = errno == EPIPE || errno == ECONNRESET ? make_error_code(errc::peer_closed)
                                                             : std::error_code(errno, std::system_category());
        ::shutdown(stream_.native_handle(), SHUT_WR);  // the peer is not to wait for the rest
        given_.wake_all();
        progress_.notify();
        return;
    }
    if (outbox_.completed() != before) progress_.notify();
    if (!peer_hello_ && !reading_) read_once();  // one who only sends would else never hear what the peer understands
  }

  /// Writes what is queued in a later turn of the loop, so that all of this turn goes in one call.
  void flush_soon() {
    if (flush_posted_ || writing_ || closed_) return;
    flush_posted_ = true;
    asio::post(stream_.get_executor(), [self = shared_from_this()] {
      self->flush_posted_ = false;
      self->flush_now();
    });
  }

  /// Waits until the kernel has message `which` whole.
  ///
  /// With `take_back`, cancelling before a byte of it is with the kernel takes it back and throws operation_aborted;
  /// after that the message is sent, the rest of it by itself, and this returns. Without, cancelling ends the waiting
  /// alone.
  static asio::awaitable<void> written(std::shared_ptr<link> self, const char* step, ticket which, bool take_back) {
    while (self->outbox_.completed() < which) {
      if (self->closed_) throw_error(step, errc::closed);
      if (self->broken_) std::rethrow_exception(self->broken_);
      if (self->write_error_) throw_error(step, self->write_error_);
      try {
        co_await self->progress_.wait();
      } catch (const std::system_error&) {
        if (self->outbox_.completed() >= which) co_return;
        if (!take_back || self->outbox_.withdraw(which)) throw;
        co_return;
      }
    }
  }

  /// Queues a message of type number `type` (u16 type, or an envelope, and encoding) and waits until the kernel has the
  /// whole of it; `together`: with what else is queued in this turn. Cancelling takes it back, see written().
  static asio::awaitable<void> send(std::shared_ptr<link> self, const char* step, std::size_t type,
                                    detail::encoded_message message, bool together = false) {
    check_open(self, step);
    self->check_sendable(step, type);
    if (message.failure) std::rethrow_exception(message.failure);
    self->check_size(step, type, message.bytes.size());
    const auto sent = self->outbox_.append(wire::kind::message, std::move(message.bytes));
    if (together) {
      self->flush_soon();
    } else {
      self->flush_now();
    }
    if (self->outbox_.completed() < sent) co_await written(self, step, sent, true);
  }

  /// Whether anything can still be sent.
  bool is_writable() const noexcept { return !closed_ && !disconnected_ && !broken_ && !write_error_; }

  static void check_open(const std::shared_ptr<link>& self, const char* step) {
    if (!self) throw_error(step, errc::closed);
  }

  /// Ends this side's messages: nothing more can be sent; what is queued goes out, then a goodbye.
  static asio::awaitable<void> disconnect(std::shared_ptr<link> self) {
    if (self->closed_ || self->write_error_) co_return;
    if (!self->disconnected_) {
      self->disconnected_ = true;
      self->goodbye_ = self->outbox_.append(wire::kind::goodbye, byte_buffer());
    }
    self->flush_now();
    while (self->outbox_.completed() < self->goodbye_ && !self->closed_ && !self->write_error_) {
      co_await self->progress_.wait();
    }
  }

  // -- leases: handles on their way out ------------------------------------------------------------------------------

  /// Gives descriptors to the peer with a message, and waits until the application there has taken them.
  ///
  /// The message begins behind `head` bytes, of which the first 8 are for the number of the lease. Throws
  /// errc::peer_closed, handle_refused, handle_lost, wrong_handle_kind, unknown_message; in each of these cases the peer
  /// does not have them. Cancelling throws operation_aborted; when the lease was on its way the peer is told to drop it,
  /// which it does unless the application has it already.
  static asio::awaitable<void> lease(std::shared_ptr<link> self, const char* step, std::size_t type, wire::kind kind,
                                     byte_buffer payload, std::size_t head, std::span<const int> fds) {
    const auto check = [&] { self->check_sendable(step, type); };
    if (!self->given_.has_room()) co_await self->given_.wait_room(self->get_executor(), check);
    check();
    self->check_size(step, type, payload.size() - head, wire::max_frame - head);

    detail::lease_window::lease mine(self->given_, self->get_executor());
    wire::store(payload.data(), mine.id, 8);
    mine.sent = self->outbox_.append_handles(kind, payload, fds);
    self->flush_soon();

    // What the peer may have got before writing failed, it may also have adopted: its last words are still to be read.
    const auto settled = [&] {
      return mine.state != lease_state::pending || self->input_ended() ||
             (self->write_error_ && self->outbox_.begun() < mine.sent);
    };
    try {
      co_await wait_input(self, mine.changed, settled);
    } catch (const std::system_error&) {
      if (mine.state == lease_state::adopted) co_return;
      if (!self->closed_ && !self->outbox_.withdraw(mine.sent)) {
        byte_buffer revoked;
        wire::store(revoked.grow(8), mine.id, 8);
        self->outbox_.append(wire::kind::revoked, std::move(revoked));
        self->flush_soon();
      }
      throw;
    }
    if (mine.state == lease_state::adopted) co_return;
    if (mine.state == lease_state::pending) {
      if (!self->closed_) self->outbox_.withdraw(mine.sent);
      if (self->broken_) std::rethrow_exception(self->broken_);
      throw_error(step, self->closed_ ? errc::closed : errc::peer_closed);
    }
    throw_error(step, error_of(mine.reason));
  }

  // -- calls ----------------------------------------------------------------------------------------------------------

  detail::call_book& calls() noexcept { return calls_; }

  /// Waits until there is an answer to a call, or none will come.
  static asio::awaitable<void> wait_answer(std::shared_ptr<link> self, detail::call_book::waiting& call) {
    return wait_input(self, call.changed,
                      [&call, link = self.get()] { return !call.answers.empty() || link->messages_ended(); });
  }

  /// Waits until a request has been read or none will come.
  static asio::awaitable<void> wait_request(std::shared_ptr<link> self) {
    return wait_input(self, self->requests_changed_,
                      [link = self.get()] { return !link->inbox_.requests.empty() || link->messages_ended(); });
  }

  // -- receiving ----------------------------------------------------------------------------------------------------

  detail::inbox& in() noexcept { return inbox_; }

  /// Nothing more will come: the peer has said goodbye or is gone, or this side is closed or broken.
  bool messages_ended() const noexcept { return said_goodbye_ || input_ended(); }

  /// Throws if the input has not ended as it should: this side broke it off, or the peer died inside a message.
  void check_end(const char* step) const {
    if (broken_) std::rethrow_exception(broken_);
    if (closed_) throw_error(step, std::error_code(asio::error::operation_aborted));
    if (!said_goodbye_ && inbox_.is_torn()) {
      throw_error(std::string(step) + ": in the middle of a message", errc::peer_closed);
    }
  }

  /// Waits until a message has been read or none will come.
  static asio::awaitable<void> wait_message(std::shared_ptr<link> self) {
    return wait_input(self, self->messages_changed_,
                      [link = self.get()] { return link->inbox_.has_message() || link->messages_ended(); });
  }

  /// Waits until a handle has been read or none will come.
  static asio::awaitable<void> wait_lease(std::shared_ptr<link> self) {
    return wait_input(self, self->leases_changed_,
                      [link = self.get()] { return !link->inbox_.leases.empty() || link->messages_ended(); });
  }

  /// Drops the first message and lets those go on reading whom a full inbox has stopped.
  void pop_message() {
    const bool was_full = is_full();
    inbox_.pop_message();
    if (was_full && !is_full()) pass_on_reading();
  }

  /// Drops a message that has been taken out of the inbox, a request or an answer; as pop_message().
  void drop(detail::inbox::stored& message) {
    const bool was_full = is_full();
    inbox_.drop(message);
    if (was_full && !is_full()) pass_on_reading();
  }

  /// Takes the first handle; as pop_message().
  detail::arrived_lease pop_lease() {
    const bool was_full = is_full();
    detail::arrived_lease first = std::move(inbox_.leases.front());
    inbox_.leases.pop_front();
    if (was_full && !is_full()) pass_on_reading();
    return first;
  }

  void adopt(std::uint64_t id) {
    char payload[8];
    wire::store(payload, id, 8);
    outbox_.control(wire::kind::adopted, payload, sizeof payload);
    flush_soon();
  }

  void refuse(std::uint64_t id, wire::refusal reason) {
    char payload[9];
    wire::store(payload, id, 8);
    payload[8] = static_cast<char>(reason);
    outbox_.control(wire::kind::refused, payload, sizeof payload);
    flush_soon();
  }

  /// Gives back what handles have arrived and not been taken, and those that come later.
  void decline_leases() {
    declining_ = true;
    for (const auto& each : inbox_.leases) refuse(each.id, wire::refusal::declined);
    inbox_.leases.clear();
    if (!reading_) pass_on_reading();
  }

  // -- the end -------------------------------------------------------------------------------------------------------

  /// Closes at once. Who waits ends with operation_aborted or errc::closed; handles not taken go back to the peer.
  void close() {
    if (closed_) return;
    flush_now();
    closed_ = true;
    retry_.cancel();
    descriptor closing(stream_.release());
    inbox_.drop_messages();
    inbox_.leases.clear();
    wake_all();
  }

  /// Breaks the link because of a message that the peer has sent, drops what came after it, and throws `why`.
  [[noreturn]] void reject(std::exception_ptr why) {
    inbox_.drop_messages();
    break_off(why);
    std::rethrow_exception(why);
  }

  // What the inbox reports; see inbox::read.

  void on_hello(const char* data, std::size_t size) {
    hello theirs = decode_hello(data, size);
    agreed_ = negotiate_(theirs);
    peer_hello_ = std::move(theirs);
  }

  void on_adopted(std::uint64_t id) { settle(id, lease_state::adopted, wire::refusal::declined); }

  void on_refused(std::uint64_t id, wire::refusal reason) { settle(id, lease_state::refused, reason); }

  void on_revoked(std::uint64_t id) {
    std::erase_if(inbox_.leases, [id](const detail::arrived_lease& each) { return each.id == id; });
    inbox_.drop_parcel(id);
  }

  bool on_parcel(const detail::arrived_parcel& parcel) {
    const bool whole = std::all_of(parcel.handles.begin(), parcel.handles.end(),
                                   [](const descriptor& each) { return static_cast<bool>(each); });
    if (!whole) refuse(parcel.id, wire::refusal::lost);
    return whole;
  }

  void on_answer(wire::envelope what, std::uint64_t id, detail::inbox::stored content) {
    bool was_made = false;
    auto* const call = calls_.find(id, was_made);
    if (call != nullptr) {
      call->answers.push_back({what, std::move(content)});
      call->changed.notify();
    } else {
      inbox_.drop(content);
      if (!was_made) throw_error("receive: answer to a call that was not made", errc::malformed);
    }
  }

  void on_cancel(std::uint64_t id) {
    if (inbox_.drop_request(id)) return;
    // In a turn of its own: the handler may end in the cancellation, and this is the middle of a read.
    if (auto signal = calls_.answering(id)) {
      asio::post(stream_.get_executor(), [signal] { signal->emit(asio::cancellation_type::terminal); });
    }
  }

  void on_goodbye() {
    said_goodbye_ = true;
    calls_.wake();
    requests_changed_.notify();
    leases_changed_.notify();
  }

  void on_lease(detail::arrived_lease lease) {
    if (!lease.fd) {
      refuse(lease.id, wire::refusal::lost);
    } else if (declining_) {
      refuse(lease.id, wire::refusal::declined);
    } else if (kind_of(lease.fd.get()) != lease.kind && lease.kind != handle_kind::descriptor) {
      refuse(lease.id, wire::refusal::wrong_kind);
    } else {
      inbox_.leases.push_back(std::move(lease));
      if (!waiting_.empty()) leases_changed_.notify();
    }
  }

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
    ~leaving_guard() {
      if (!owner.reading_) owner.pass_on_reading();
    }
  };

  struct waiting_guard {
    link& owner;
    event* mine;
    waiting_guard(link& l, event& e) : owner(l), mine(&e) { owner.waiting_.push_back(mine); }
    waiting_guard(const waiting_guard&) = delete;
    ~waiting_guard() { owner.waiting_.erase(std::find(owner.waiting_.begin(), owner.waiting_.end(), mine)); }
  };

  static errc error_of(wire::refusal reason) noexcept {
    switch (reason) {
      case wire::refusal::lost: return errc::handle_lost;
      case wire::refusal::wrong_kind: return errc::wrong_handle_kind;
      case wire::refusal::unknown: return errc::unknown_message;
      default: return errc::handle_refused;
    }
  }

  bool input_ended() const noexcept { return ended_ || closed_ || broken_; }
  bool is_full() const noexcept {
    return inbox_.stored_bytes() >= inbox_limit || inbox_.leases.size() > options_.max_leases;
  }

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
  bool poll() {
    if (poll_time_.count() == 0) return false;
    const auto end = std::chrono::steady_clock::now() + poll_time_;
    do {
      if (read_once()) return true;
    } while (std::chrono::steady_clock::now() < end);
    return false;
  }

  /// Reads what is there; false when nothing is. Failures break the link and count as news.
  bool read_once() {
    if (input_ended()) return true;
    if (std::exchange(drained_, false)) return false;
    try {
      switch (inbox_.read(stream_.native_handle(), *this)) {
        case detail::inbox::outcome::empty: return false;
        case detail::inbox::outcome::drained: drained_ = true; break;
        case detail::inbox::outcome::data: break;
        case detail::inbox::outcome::end:
          ended_ = true;
          if (!write_error_) write_error_ = make_error_code(errc::peer_closed);
          wake_all();
          return true;
      }
      if (!waiting_.empty()) {
        messages_changed_.notify();
        if (!inbox_.requests.empty()) requests_changed_.notify();
      }
    } catch (...) {
      break_off(std::current_exception());
    }
    return true;
  }

  /// The peer is not to be believed any more, and sees the end of the stream. Messages that came before can be taken.
  void break_off(std::exception_ptr why) {
    if (closed_ || broken_) return;
    broken_ = std::move(why);
    flush_now();  // the last words are which handles have been taken over
    write_error_ = make_error_code(errc::malformed);
    retry_.cancel();
    descriptor closing(stream_.release());
    inbox_.leases.clear();
    wake_all();
  }

  void settle(std::uint64_t id, lease_state answer, wire::refusal reason) {
    given_.settle(id, answer, reason, outbox_.begun());
  }

  void pass_on_reading() {
    if (!waiting_.empty()) waiting_.front()->notify();
  }

  void wake_all() {
    given_.wake_all();
    calls_.wake();
    messages_changed_.notify();
    requests_changed_.notify();
    leases_changed_.notify();
    progress_.notify();
  }

  void resume_when_writable() {
    writing_ = true;
    stream_.async_wait(asio::posix::stream_descriptor::wait_write, [self = shared_from_this()](std::error_code error) {
      self->writing_ = false;
      if (!error) self->flush_now();
    });
  }

  void resume_next_turn() {
    writing_ = true;
    asio::post(stream_.get_executor(), [self = shared_from_this()] {
      self->writing_ = false;
      self->flush_now();
    });
  }

  void resume_later() {
    writing_ = true;
    retry_.expires_after(std::chrono::milliseconds(2));
    retry_.async_wait([self = shared_from_this()](std::error_code error) {
      self->writing_ = false;
      if (!error) self->flush_now();
    });
  }

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
