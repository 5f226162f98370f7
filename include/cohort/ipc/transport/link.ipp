// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "link.hpp"

#include "../../core/config.hpp"

#include <string>
#include <utility>

namespace cohort {

COHORT_INLINE link::link(asio::any_io_executor executor, descriptor socket, const channel_options& options,
                         negotiator negotiate, std::span<const std::string_view> names)
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

COHORT_INLINE void link::greet(const hello& mine) {
  byte_buffer payload;
  encode(payload, mine);
  outbox_.control(wire::kind::hello, payload.data(), payload.size());
  flush_now();
  if (!peer_hello_) read_once();  // the peer's lies there already when it was here first
}

COHORT_INLINE void link::check_sendable(const char* step, std::size_t type) {
  if (closed_ || disconnected_) throw_error(step, errc::closed);
  if (broken_) std::rethrow_exception(broken_);
  if (write_error_) throw_error(step, write_error_);
  if (peer_hello_ && !agreed_.outgoing[type]) {
    throw_error(std::string(step).append(": ").append(names_[type]), errc::unknown_message);
  }
}

COHORT_INLINE void link::check_size(const char* step, std::size_t type, std::size_t size, std::size_t most) const {
  most = std::min<std::size_t>(most, options_.max_message);
  if (peer_hello_) most = std::min<std::size_t>(most, peer_hello_->max_message);
  if (size <= most) return;
  throw_error(std::string(step).append(": ").append(names_[type]) + " of " + std::to_string(size) + " bytes, at most " +
                  std::to_string(most),
              errc::message_too_large);
}

COHORT_INLINE void link::flush_now() {
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

COHORT_INLINE void link::flush_soon() {
  if (flush_posted_ || writing_ || closed_) return;
  flush_posted_ = true;
  asio::post(stream_.get_executor(), [self = shared_from_this()] {
    self->flush_posted_ = false;
    self->flush_now();
  });
}

COHORT_INLINE asio::awaitable<void> link::written(std::shared_ptr<link> self, const char* step, ticket which,
                                                  bool take_back) {
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

COHORT_INLINE asio::awaitable<void> link::send(std::shared_ptr<link> self, const char* step, std::size_t type,
                                               detail::encoded_message message, bool together) {
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

COHORT_INLINE void link::check_open(const std::shared_ptr<link>& self, const char* step) {
  if (!self) throw_error(step, errc::closed);
}

COHORT_INLINE asio::awaitable<void> link::disconnect(std::shared_ptr<link> self) {
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

COHORT_INLINE asio::awaitable<void> link::lease(std::shared_ptr<link> self, const char* step, std::size_t type,
                                                wire::kind kind, byte_buffer payload, std::size_t head,
                                                std::span<const int> fds) {
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

COHORT_INLINE asio::awaitable<void> link::wait_answer(std::shared_ptr<link> self, detail::call_book::waiting& call) {
  return wait_input(self, call.changed,
                    [&call, link = self.get()] { return !call.answers.empty() || link->messages_ended(); });
}

COHORT_INLINE asio::awaitable<void> link::wait_request(std::shared_ptr<link> self) {
  return wait_input(self, self->requests_changed_,
                    [link = self.get()] { return !link->inbox_.requests.empty() || link->messages_ended(); });
}

COHORT_INLINE void link::check_end(const char* step) const {
  if (broken_) std::rethrow_exception(broken_);
  if (closed_) throw_error(step, std::error_code(asio::error::operation_aborted));
  if (!said_goodbye_ && inbox_.is_torn()) {
    throw_error(std::string(step) + ": in the middle of a message", errc::peer_closed);
  }
}

COHORT_INLINE asio::awaitable<void> link::wait_message(std::shared_ptr<link> self) {
  return wait_input(self, self->messages_changed_,
                    [link = self.get()] { return link->inbox_.has_message() || link->messages_ended(); });
}

COHORT_INLINE asio::awaitable<void> link::wait_lease(std::shared_ptr<link> self) {
  return wait_input(self, self->leases_changed_,
                    [link = self.get()] { return !link->inbox_.leases.empty() || link->messages_ended(); });
}

COHORT_INLINE void link::pop_message() {
  const bool was_full = is_full();
  inbox_.pop_message();
  if (was_full && !is_full()) pass_on_reading();
}

COHORT_INLINE void link::drop(detail::inbox::stored& message) {
  const bool was_full = is_full();
  inbox_.drop(message);
  if (was_full && !is_full()) pass_on_reading();
}

COHORT_INLINE detail::arrived_lease link::pop_lease() {
  const bool was_full = is_full();
  detail::arrived_lease first = std::move(inbox_.leases.front());
  inbox_.leases.pop_front();
  if (was_full && !is_full()) pass_on_reading();
  return first;
}

COHORT_INLINE void link::adopt(std::uint64_t id) {
  char payload[8];
  wire::store(payload, id, 8);
  outbox_.control(wire::kind::adopted, payload, sizeof payload);
  flush_soon();
}

COHORT_INLINE void link::refuse(std::uint64_t id, wire::refusal reason) {
  char payload[9];
  wire::store(payload, id, 8);
  payload[8] = static_cast<char>(reason);
  outbox_.control(wire::kind::refused, payload, sizeof payload);
  flush_soon();
}

COHORT_INLINE void link::decline_leases() {
  declining_ = true;
  for (const auto& each : inbox_.leases) refuse(each.id, wire::refusal::declined);
  inbox_.leases.clear();
  if (!reading_) pass_on_reading();
}

COHORT_INLINE void link::close() {
  if (closed_) return;
  flush_now();
  closed_ = true;
  retry_.cancel();
  descriptor closing(stream_.release());
  inbox_.drop_messages();
  inbox_.leases.clear();
  wake_all();
}

COHORT_INLINE void link::reject(std::exception_ptr why) {
  inbox_.drop_messages();
  break_off(why);
  std::rethrow_exception(why);
}

COHORT_INLINE void link::on_hello(const char* data, std::size_t size) {
  hello theirs = decode_hello(data, size);
  agreed_ = negotiate_(theirs);
  peer_hello_ = std::move(theirs);
}

COHORT_INLINE void link::on_revoked(std::uint64_t id) {
  std::erase_if(inbox_.leases, [id](const detail::arrived_lease& each) { return each.id == id; });
  inbox_.drop_parcel(id);
}

COHORT_INLINE bool link::on_parcel(const detail::arrived_parcel& parcel) {
  const bool whole = std::all_of(parcel.handles.begin(), parcel.handles.end(),
                                 [](const descriptor& each) { return static_cast<bool>(each); });
  if (!whole) refuse(parcel.id, wire::refusal::lost);
  return whole;
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
  if (auto signal = calls_.answering(id)) {
    asio::post(stream_.get_executor(), [signal] { signal->emit(asio::cancellation_type::terminal); });
  }
}

COHORT_INLINE void link::on_goodbye() {
  said_goodbye_ = true;
  calls_.wake();
  requests_changed_.notify();
  leases_changed_.notify();
}

COHORT_INLINE void link::on_lease(detail::arrived_lease lease) {
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

COHORT_INLINE link::leaving_guard::~leaving_guard() {
  if (!owner.reading_) owner.pass_on_reading();
}

COHORT_INLINE errc link::error_of(wire::refusal reason) noexcept {
  switch (reason) {
    case wire::refusal::lost: return errc::handle_lost;
    case wire::refusal::wrong_kind: return errc::wrong_handle_kind;
    case wire::refusal::unknown: return errc::unknown_message;
    default: return errc::handle_refused;
  }
}

COHORT_INLINE bool link::is_full() const noexcept {
  return inbox_.stored_bytes() >= inbox_limit || inbox_.leases.size() > options_.max_leases;
}

COHORT_INLINE bool link::poll() {
  if (poll_time_.count() == 0) return false;
  const auto end = std::chrono::steady_clock::now() + poll_time_;
  do {
    if (read_once()) return true;
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

COHORT_INLINE bool link::read_once() {
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

COHORT_INLINE void link::break_off(std::exception_ptr why) {
  if (closed_ || broken_) return;
  broken_ = std::move(why);
  flush_now();  // the last words are which handles have been taken over
  write_error_ = make_error_code(errc::malformed);
  retry_.cancel();
  descriptor closing(stream_.release());
  inbox_.leases.clear();
  wake_all();
}

COHORT_INLINE void link::settle(std::uint64_t id, lease_state answer, wire::refusal reason) {
  given_.settle(id, answer, reason, outbox_.begun());
}

COHORT_INLINE void link::pass_on_reading() {
  if (!waiting_.empty()) waiting_.front()->notify();
}

COHORT_INLINE void link::wake_all() {
  given_.wake_all();
  calls_.wake();
  messages_changed_.notify();
  requests_changed_.notify();
  leases_changed_.notify();
  progress_.notify();
}

COHORT_INLINE void link::resume_when_writable() {
  writing_ = true;
  stream_.async_wait(asio::posix::stream_descriptor::wait_write, [self = shared_from_this()](std::error_code error) {
    self->writing_ = false;
    if (!error) self->flush_now();
  });
}

COHORT_INLINE void link::resume_next_turn() {
  writing_ = true;
  asio::post(stream_.get_executor(), [self = shared_from_this()] {
    self->writing_ = false;
    self->flush_now();
  });
}

COHORT_INLINE void link::resume_later() {
  writing_ = true;
  retry_.expires_after(std::chrono::milliseconds(2));
  retry_.async_wait([self = shared_from_this()](std::error_code error) {
    self->writing_ = false;
    if (!error) self->flush_now();
  });
}

}  // namespace cohort
