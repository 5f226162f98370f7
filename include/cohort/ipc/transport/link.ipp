// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "link.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <functional>
#include <string>
#include <typeinfo>
#include <utility>

#include "../../core/asio_error.hpp"
#include "../../core/scope.hpp"

namespace cohort {

namespace detail {

/// Throws for an executor on which two handlers of one channel may run at the same time, as far as it can be told.
COHORT_INLINE void check_executor(const asio::any_io_executor& executor) {
  using pool = asio::thread_pool::executor_type;
  if (!executor || executor.target_type() != typeid(pool)) return;  // target() alone does not look in Asio 1.22
  if (asio::query(*executor.target<pool>(), asio::execution::occupancy) > 1) {
    throw_error("channel: an executor of several threads, without a strand (asio::make_strand) around it", EINVAL);
  }
}

}  // namespace detail

COHORT_INLINE std::shared_ptr<link> link::open(asio::any_io_executor executor, descriptor socket,
                                               const channel_options& options, const message_table& outgoing,
                                               const message_table& incoming) {
  detail::check_executor(executor);
  auto result = std::make_shared<link>(std::move(executor), std::move(socket), options, outgoing, incoming);
  result->greet();
  return result;
}

COHORT_INLINE link::link(asio::any_io_executor executor, descriptor socket, const channel_options& options,
                         const message_table& outgoing, const message_table& incoming)
    : options_(options),
      socket_(executor),
      bytes_(socket.get()),
      handshake_{outgoing, incoming, {}, {}},
      writes_(*this, executor),
      reads_(*this),
      inbox_(options.max_message),
      changed_(executor),
      given_(options.max_leases) {
  detail::assign(socket_, socket);
}

COHORT_INLINE link::~link() = default;

namespace detail {

/// The bytes of this side's ring.
COHORT_INLINE std::size_t ring_capacity(const channel_options& options) {
  if (options.ring_size >= 1 && options.ring_size <= ring_memory::most) {
    return std::max(std::bit_ceil(options.ring_size), ring_memory::least);
  }
  throw_error("channel: ring_size of " + std::to_string(options.ring_size) + " bytes, at most " +
                  std::to_string(ring_memory::most),
              errc::invalid_option);
}

}  // namespace detail

COHORT_INLINE void link::greet() {
  byte_buffer payload;
  encode(payload, make_hello(handshake_.outgoing, handshake_.incoming, options_.max_message));
  out().control(wire::kind::hello, payload.data(), payload.size());
  if (options_.transport == transport::shared_memory) bytes_.make_ring(detail::ring_capacity(options_));
  flush_now();
  if (!handshake_.theirs) reads_.read_once();  // the peer's lies there already when it was here first
}

COHORT_INLINE void link::check_sendable(const char* step, std::size_t type) {
  if (state_.closed || writes_.is_disconnected()) throw_error(step, errc::closed);
  if (state_.broken) std::rethrow_exception(state_.broken);
  if (writes_.error()) throw_error(step, writes_.error());
  if (handshake_.theirs && !handshake_.agreed.outgoing[type]) {
    throw_error(std::string(step).append(": ").append(handshake_.outgoing.names[type]), errc::unknown_message);
  }
}

COHORT_INLINE bool link::is_sendable(std::size_t type) const noexcept {
  return is_writable() && (!handshake_.theirs || handshake_.agreed.outgoing[type]);
}

COHORT_INLINE void link::check_size(const char* step, std::size_t type, std::size_t size, std::size_t most) const {
  most = std::min<std::size_t>(most, options_.max_message);
  if (handshake_.theirs) most = std::min<std::size_t>(most, handshake_.theirs->max_message);
  if (size <= most) return;
  throw_error(std::string(step).append(": ").append(handshake_.outgoing.names[type]) + " of " + std::to_string(size) +
                  " bytes, at most " + std::to_string(most),
              errc::message_too_large);
}

COHORT_INLINE asio::awaitable<void> link::send(std::shared_ptr<link> self, const char* step, std::size_t type,
                                               detail::encoded_message message, bool together) {
  check_open(self, step);
  self->check_sendable(step, type);
  if (message.failure) std::rethrow_exception(message.failure);
  self->check_size(step, type, message.size());
  if (!message.borrowed.empty()) {  // in a frame of its own, which the others need not have
    co_await send_lent(self, step, std::move(message));
    co_return;
  }
  const auto sent = self->out().append(wire::kind::message, std::move(message.bytes));
  if (together) {
    self->flush_soon();
  } else {
    self->flush_now();
  }
  if (self->out().completed() < sent) co_await written(self, step, sent, true);
}

COHORT_INLINE asio::awaitable<void> link::send_lent(std::shared_ptr<link> self, const char* step,
                                                    detail::encoded_message message) {
  const auto sent = self->out().append(std::move(message.bytes), message.borrowed.list());
  const detail::on_exit keeps([&self, sent] { self->keep(sent); });
  self->flush_now();
  if (self->out().completed() < sent) co_await written(self, step, sent, true);
}

COHORT_INLINE void link::keep(ticket which) noexcept {
  if (state_.closed || writes_.error() || out().completed() >= which) return;
  try {
    out().keep(which);
  } catch (...) {
    break_off(std::current_exception());
  }
}

COHORT_INLINE asio::awaitable<void> link::flush(std::shared_ptr<link> self) {
  check_open(self, "flush");
  self->flush_now();
  const auto last = self->out().mark();
  if (self->out().completed() < last) co_await written(self, "flush", last, false);
}

COHORT_INLINE asio::awaitable<std::size_t> link::send_many(std::shared_ptr<link> self, std::function<bool()> fill) {
  check_open(self, "send_many");
  detail::outbox& out = self->out();
  std::size_t sent = 0;
  auto from = out.appended();  // what has been queued since is all from here: nobody else ran meanwhile
  auto last = from;
  try {
    for (bool more = true; more;) {
      more = fill();
      last = out.appended();
      self->flush_now();
      if (more ? out.waiting_bytes() >= self->options_.high_water : last != from && out.completed() < last) {
        co_await written(self, "send_many", last, false);
        sent += static_cast<std::size_t>(last - from);
        from = last = out.appended();
      }
    }
  } catch (...) {
    const auto error = detail::caught();
    if (error.code() != operation_aborted()) {
      self->flush_soon();  // those before the one that cannot be sent
      throw;
    }
    // From the end, so that what is left has no gaps.
    while (last > from && out.withdraw(last)) --last;
    if (sent == 0 && last == from) throw;
  }
  co_return sent + static_cast<std::size_t>(last - from);
}

COHORT_INLINE void link::check_open(const std::shared_ptr<link>& self, const char* step) {
  if (!self) throw_error(step, errc::closed);
}

COHORT_INLINE asio::awaitable<void> link::wait_answer(std::shared_ptr<link> self, detail::call_book::waiting& call) {
  return detail::read_baton::wait(
      self, call.changed, [&call, link = self.get()] { return !call.answers.empty() || link->messages_ended(); });
}

COHORT_INLINE asio::awaitable<void> link::wait_request(std::shared_ptr<link> self) {
  return detail::read_baton::wait(self, self->changed_.requests, [link = self.get()] {
    return !link->inbox_.requests.empty() || link->messages_ended();
  });
}

COHORT_INLINE void link::check_end(const char* step) const {
  if (state_.broken) std::rethrow_exception(state_.broken);
  if (state_.closed) throw_error(step, operation_aborted());
  if (!state_.said_goodbye && inbox_.is_torn()) {
    throw_error(std::string(step) + ": in the middle of a message", errc::peer_closed);
  }
}

COHORT_INLINE asio::awaitable<void> link::wait_message(std::shared_ptr<link> self) {
  return detail::read_baton::wait(self, self->changed_.messages,
                                  [link = self.get()] { return link->inbox_.has_message() || link->messages_ended(); });
}

COHORT_INLINE void link::stop_landing() noexcept {
  try {
    inbox_.lift();
  } catch (...) {
    break_off(std::current_exception());
  }
  inbox_.stop_landing();
}

COHORT_INLINE void link::pop_message() {
  const bool was_full = is_full();
  inbox_.pop_message();
  resume_reading(was_full);
}

COHORT_INLINE void link::drop(detail::inbox::stored& message) {
  const bool was_full = is_full();
  inbox_.drop(message);
  resume_reading(was_full);
}

COHORT_INLINE void link::close() {
  if (state_.closed) return;
  if (!out().has_lent()) flush_now();  // the owner of a message that is under way may be gone already
  state_.closed = true;
  writes_.stop_waiting();
  bytes_.close();
  descriptor closing(socket_.release());
  inbox_.drop_handles();
  inbox_.drop_messages();
  borrowed_.drop();
  wake_all();
}

COHORT_INLINE void link::reject(std::exception_ptr why) {
  inbox_.drop_messages();
  borrowed_.drop();
  break_off(why);
  std::rethrow_exception(why);
}

COHORT_INLINE void link::on_hello(const char* data, std::size_t size) {
  hello theirs = decode_hello(data, size);
  handshake_.agreed = negotiate(handshake_.outgoing, handshake_.incoming, theirs);
  handshake_.theirs = std::move(theirs);
}

COHORT_INLINE void link::on_answer(wire::envelope what, std::uint64_t id, detail::inbox::stored content) {
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

COHORT_INLINE void link::on_cancel(std::uint64_t id) {
  if (inbox_.drop_request(id)) return;
  // In a turn of its own: the handler may end in the cancellation, and this is the middle of a read.
  if (auto signal = calls_.cancel_answer(id)) {
    asio::post(socket_.get_executor(), [signal] { signal->emit(asio::cancellation_type::terminal); });
  }
}

COHORT_INLINE void link::on_goodbye() {
  state_.said_goodbye = true;
  calls_.wake();
  changed_.requests.notify();
  changed_.leases.notify();
  changed_.loans.notify();
}

COHORT_INLINE bool link::is_full() const noexcept {
  if (inbox_.stored_bytes() + borrowed_.stored_bytes() >= inbox_limit || inbox_.stored_handles() > options_.max_leases)
    return true;
  if (inbox_.stored_memory() + borrowed_.stored_memory() >= inbox_memory || inbox_.buffer_memory() >= inbox_memory)
    return true;
  return writes_.queue().control_bytes() >= answers_limit && !writes_.error();  // that is not read will never be
}

COHORT_INLINE void link::on_flushed() {
  // One who only sends would else never hear what the peer understands.
  if ((!handshake_.theirs || bytes_.awaits_ring()) && !reads_.is_held() && !is_full()) reads_.read_once();
}

COHORT_INLINE void link::on_read() {
  changed_.messages.notify();
  if (!inbox_.requests.empty()) changed_.requests.notify();
}

COHORT_INLINE void link::on_end() {
  state_.ended = true;
  inbox_.drop_unclaimed();
  if (!writes_.error()) writes_.fail(make_error_code(errc::peer_closed));
  wake_all();
}

COHORT_INLINE void link::break_off(std::exception_ptr why) {
  if (state_.closed || state_.broken) return;
  state_.broken = std::move(why);
  flush_now();  // the last words are which handles have been taken over
  writes_.fail(make_error_code(errc::malformed));
  writes_.stop_waiting();
  bytes_.close();
  descriptor closing(socket_.release());
  inbox_.drop_handles();  // nobody can be told any more that they have been taken
  wake_all();
}

COHORT_INLINE void link::break_off_malformed(const char* what) {
  break_off(std::make_exception_ptr(std::system_error(make_error_code(errc::malformed), what)));
}

COHORT_INLINE void link::on_ring(descriptor memory, std::uint64_t capacity) {
  if (bytes_.reads_ring()) throw_error("receive: a second ring", errc::malformed);
  if (capacity > options_.max_peer_ring) {
    throw_error(
        "receive: a ring of " + std::to_string(capacity) + " bytes, at most " + std::to_string(options_.max_peer_ring),
        errc::malformed);
  }
  bytes_.attach(memory, capacity);
  if (bytes_.has_ring()) return;
  bytes_.make_ring(detail::ring_capacity(options_));
  flush_soon();
}

COHORT_INLINE void link::wake_all() {
  given_.wake_all();
  calls_.wake();
  changed_.messages.notify();
  changed_.requests.notify();
  changed_.leases.notify();
  changed_.loans.notify();
  end_lending();
  writes_.wake_all();
}

}  // namespace cohort
