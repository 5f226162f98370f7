// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <system_error>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../core/event.hpp"
#include "../channel_options.hpp"
#include "../codec/byte_buffer.hpp"
#include "../codec/schema.hpp"
#include "borrowed_memory.hpp"
#include "byte_transport.hpp"
#include "call_book.hpp"
#include "encoded_message.hpp"
#include "frame.hpp"
#include "inbox.hpp"
#include "lease_window.hpp"
#include "loan_pool.hpp"
#include "outbox.hpp"
#include "read_baton.hpp"
#include "write_pump.hpp"

namespace cohort {
namespace detail {

/// How far a link is from its end.
struct link_state {
  bool closed = false;        // by this side
  bool ended = false;         // the peer is gone, and everything that it has sent has been read
  bool said_goodbye = false;  // the peer sends no more messages
  std::exception_ptr broken;  // the peer has sent what no correct peer sends

  /// Nothing more will be read.
  bool input_ended() const noexcept { return ended || closed || broken; }
};

/// What the two sides of a link have told each other of their messages.
struct handshake {
  message_table outgoing;
  message_table incoming;
  std::optional<hello> theirs;
  negotiation agreed;
};

}  // namespace detail

/// Frames and descriptors between two processes, on a loop: what `channel` gives types to.
///
/// Nothing runs in the background but the writing of what has been queued (see write_pump). Whoever waits for input
/// reads (see read_baton). Held by shared_ptr, so that an operation outlives the channel it came from.
class link : public std::enable_shared_from_this<link> {
 public:
  using ticket = detail::outbox::ticket;

  /// Takes the socket and says hello, for which nobody waits. See channel.
  static std::shared_ptr<link> open(asio::any_io_executor executor, descriptor socket, const channel_options& options,
                                    const message_table& outgoing, const message_table& incoming);

  link(asio::any_io_executor executor, descriptor socket, const channel_options& options, const message_table& outgoing,
       const message_table& incoming);

  link(const link&) = delete;
  link& operator=(const link&) = delete;
  ~link();

  asio::any_io_executor get_executor() { return socket_.get_executor(); }
  const channel_options& options() const noexcept { return options_; }
  int native_handle() { return socket_.native_handle(); }
  bool is_open() const noexcept { return !state_.closed && !state_.broken; }

  /// The peer's hello, once it has been read.
  const std::optional<hello>& peer_hello() const noexcept { return handshake_.theirs; }
  const negotiation& agreed() const noexcept { return handshake_.agreed; }

  // -- sending ----------------------------------------------------------------------------------------------------

  detail::outbox& out() noexcept { return writes_.queue(); }

  /// Throws what stands in the way of sending message number `type`.
  void check_sendable(const char* step, std::size_t type);

  /// Whether message number `type` could be sent now; see check_sendable().
  bool is_sendable(std::size_t type) const noexcept;

  /// Throws errc::message_too_large unless both sides take a message of `size` bytes, and it is not above `most`.
  void check_size(const char* step, std::size_t type, std::size_t size, std::size_t most = ~std::size_t{0}) const;

  /// See channel::poll_for().
  void poll_for(std::chrono::nanoseconds time) noexcept { reads_.poll_for(time); }

  /// See write_pump.
  void flush_now() { writes_.flush_now(); }
  void flush_soon() { writes_.flush_soon(); }

  /// Whether a message may be posted: not so while `high_water` bytes wait already.
  bool has_room_to_post() const noexcept { return writes_.queue().waiting_bytes() < options_.high_water; }

  /// Has what was posted go out: with what else this turn of the loop queues, or now when that is much already.
  void flush_posted() {
    if (out().waiting_bytes() >= flush_at) {
      flush_now();
    } else {
      flush_soon();
    }
  }

  /// Bytes that are worth a write of their own.
  static constexpr std::size_t flush_at = 64 * 1024;

  /// Waits until the kernel has everything that is queued now; see channel::flush().
  static asio::awaitable<void> flush(std::shared_ptr<link> self);

  /// Sends what `fill()` queues: it adds messages until `flush_at` bytes wait, and returns whether it may have more.
  /// See channel::send_many().
  static asio::awaitable<std::size_t> send_many(std::shared_ptr<link> self, std::function<bool()> fill);

  /// Waits until the kernel has message `which` whole.
  ///
  /// With `take_back`, cancelling before a byte of it is with the kernel takes it back and throws operation_aborted;
  /// after that the message is sent, the rest of it by itself, and this returns. Without, cancelling ends the waiting
  /// alone.
  static asio::awaitable<void> written(std::shared_ptr<link> self, const char* step, ticket which, bool take_back) {
    return detail::write_pump::written(std::move(self), step, which, take_back);
  }

  /// Queues a message of type number `type` (u16 type, or an envelope, and encoding) and waits until the kernel has the
  /// whole of it; `together`: with what else is queued in this turn. Cancelling takes it back, see written().
  static asio::awaitable<void> send(std::shared_ptr<link> self, const char* step, std::size_t type,
                                    detail::encoded_message message, bool together = false);

  /// Whether anything can still be sent.
  bool is_writable() const noexcept { return is_open() && !writes_.is_disconnected() && !writes_.error(); }

  static void check_open(const std::shared_ptr<link>& self, const char* step);

  /// Ends this side's messages: nothing more can be sent; what is queued goes out, then a goodbye.
  static asio::awaitable<void> disconnect(std::shared_ptr<link> self) {
    return detail::write_pump::disconnect(std::move(self));
  }

  // -- leases: handles on their way out ------------------------------------------------------------------------------

  /// Gives descriptors to the peer with a message, and waits until the application there has taken them.
  ///
  /// The message begins behind `head` bytes, of which the first 8 are for the number of the lease. Throws
  /// errc::peer_closed, handle_refused, handle_lost, wrong_handle_kind, unknown_message; in each of these cases the
  /// peer does not have them. Cancelling throws operation_aborted; when the lease was on its way the peer is told to
  /// drop it, which it does unless the application has it already.
  static asio::awaitable<void> lease(std::shared_ptr<link> self, const char* step, std::size_t type, wire::kind kind,
                                     byte_buffer payload, std::size_t head, std::span<const int> fds);

  detail::lease_window& given() noexcept { return given_; }

  /// Takes a lease back that nobody waits for any more, or tells the peer to drop it.
  void revoke(const detail::lease_window::lease& mine);

  static errc error_of(wire::refusal reason) noexcept;

  // -- loans ----------------------------------------------------------------------------------------------------------

  /// Waits for memory of this side's pool, which is made for the first. See channel::loan().
  static asio::awaitable<detail::loan_piece> lend(std::shared_ptr<link> self, std::size_t bytes);

  /// Sends a message of type number `type`, encoded behind loan_head bytes, and `count` elements in `what`, which is
  /// empty then. If it throws, `what` is as it was; it must outlive the operation. Cancelling: see written().
  static asio::awaitable<void> send_loan(std::shared_ptr<link> self, std::size_t type, detail::encoded_message message,
                                         detail::loan_piece& what, std::size_t count, detail::loan_type of);

  /// Waits until a loan has been read or none will come.
  static asio::awaitable<void> wait_loan(std::shared_ptr<link> self);

  const detail::borrowed_memory& borrowed() const noexcept { return borrowed_; }

  /// Takes the first loan; as pop_message().
  detail::arrived_loan pop_loan();

  /// Tells the peer that the application has done with a loan.
  void give_back_loan(std::uint64_t id, std::size_t offset) noexcept;

  /// Has those who wait for memory look whether anything can still be sent.
  void wake_lending() {
    if (lending_) lending_->wake_all();
  }

  // -- calls ----------------------------------------------------------------------------------------------------------

  detail::call_book& calls() noexcept { return calls_; }

  /// Waits until there is an answer to a call, or none will come.
  static asio::awaitable<void> wait_answer(std::shared_ptr<link> self, detail::call_book::waiting& call);

  /// Waits until a request has been read or none will come.
  static asio::awaitable<void> wait_request(std::shared_ptr<link> self);

  // -- receiving ----------------------------------------------------------------------------------------------------

  detail::inbox& in() noexcept { return inbox_; }

  /// Nothing more will come: the peer has said goodbye or is gone, or this side is closed or broken.
  bool messages_ended() const noexcept { return state_.said_goodbye || state_.input_ended(); }

  /// Throws if the input has not ended as it should: this side broke it off, or the peer died inside a message.
  void check_end(const char* step) const;

  /// Waits until a message has been read or none will come.
  static asio::awaitable<void> wait_message(std::shared_ptr<link> self);

  /// Waits until a handle has been read or none will come.
  static asio::awaitable<void> wait_lease(std::shared_ptr<link> self);

  /// Reads nothing to where receive_into() wants it any more; what has been read so is taken in. Breaks the link if
  /// there is no memory for it.
  void stop_landing() noexcept;

  /// Drops the first message and lets those go on reading whom a full inbox has stopped.
  void pop_message();

  /// Lets those go on reading whom a full inbox has stopped, if it `was_full`.
  void resume_reading(bool was_full) {
    if (was_full && !is_full()) reads_.pass_on();
  }

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

  void on_ring(descriptor memory, std::uint64_t capacity);

  void on_pool(const descriptor& memory, std::uint64_t size);

  void on_loan(const char* data, std::size_t size);

  void on_returned(std::uint64_t id);

  // What its parts see of it, and tell it.

  asio::posix::stream_descriptor& socket() noexcept { return socket_; }
  detail::byte_transport& bytes() noexcept { return bytes_; }
  const detail::link_state& state() const noexcept { return state_; }
  detail::write_pump& writes() noexcept { return writes_; }
  detail::read_baton& reads() noexcept { return reads_; }

  /// Whether nothing more is read until some of what has been read ahead is taken, or some of what the peer is to be
  /// told has been written.
  bool is_full() const noexcept;

  void on_flushed();

  void on_write_failed() {
    given_.wake_all();
    wake_lending();
  }

  /// The kernel does not pass the handles of these messages.
  void on_handles_refused(const std::vector<detail::outbox::refused>& which);

  /// Something was read while others wait for it.
  void on_read();

  /// The peer is gone.
  void on_end();

  /// The peer is not to be believed any more, and sees the end of the stream. Messages that came before can be taken.
  void break_off(std::exception_ptr why);
  void break_off_malformed(const char* what);

 private:
  /// Sends a message whose owner lends parts of it, until this ends.
  static asio::awaitable<void> send_lent(std::shared_ptr<link> self, const char* step, detail::encoded_message message);

  /// The parts of a message that its owner has lent are about to go away.
  void keep(ticket which) noexcept;

  using lease_state = detail::lease_window::state;

  /// Notified when one has arrived, or none will.
  struct changes {
    explicit changes(const asio::any_io_executor& executor)
        : messages(executor), requests(executor), leases(executor), loans(executor) {}
    event messages;
    event requests;
    event leases;
    event loans;
  };

  // What is read ahead on behalf of somebody who waits for something else: no more than this in bytes of messages, and
  // no more memory for them. One read may go beyond it.
  static constexpr std::size_t inbox_limit = 4 * 1024 * 1024;
  static constexpr std::size_t inbox_memory = 16 * 1024 * 1024;

  // Bytes of answers to handles that the peer does not read. These answers are all that reading queues by itself, and
  // none of them is answered, so that two sides never wait here for each other: before one has read so many handles
  // that this much is to be said of them, it has read all that the kernel lets be on its way.
  static constexpr std::size_t answers_limit = 64 * 1024;

  /// Queues this side's hello, which must be the first frame, and lets it go out; then its ring, if it is to have one.
  void greet();

  void settle(std::uint64_t id, lease_state answer, wire::refusal reason);

  void wake_all();

  /// Has the peer get this side's pool with what is queued next.
  void pass_pool();

  /// Nobody lends or gives back any more: the memory goes when the loans go that the application still has.
  void end_lending() noexcept;

  channel_options options_;
  asio::posix::stream_descriptor socket_;
  detail::byte_transport bytes_;
  detail::link_state state_;
  detail::handshake handshake_;
  detail::write_pump writes_;
  detail::read_baton reads_;
  detail::inbox inbox_;
  changes changed_;
  detail::lease_window given_;
  detail::call_book calls_;
  std::shared_ptr<detail::loan_pool> lending_;  // from the first loan on
  detail::borrowed_memory borrowed_;
  bool declining_ = false;  // leases
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "borrowed_memory.ipp"
#include "link.ipp"
#include "link_leases.ipp"
#include "link_loans.ipp"
#include "read_baton.ipp"
#include "write_pump.ipp"
#endif
