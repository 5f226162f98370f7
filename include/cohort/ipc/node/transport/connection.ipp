// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "connection.hpp"

#include "../../../core/config.hpp"

#include <cerrno>
#include <chrono>
#include <utility>

#include <sys/socket.h>

#include "../../../core/asio_error.hpp"
#include "../../../core/error.hpp"
#include "../../../core/scope.hpp"

namespace cohort::detail {

COHORT_INLINE node_connection::ptr node_connection::open(asio::any_io_executor executor, descriptor socket,
                                                         const node_options& options) {
  auto result = std::make_shared<node_connection>(std::move(executor), std::move(socket), options);
  result->read_on();
  return result;
}

COHORT_INLINE node_connection::node_connection(asio::any_io_executor executor, descriptor socket,
                                               const node_options& options)
    : options_(options),
      socket_(executor),
      retry_(executor),
      closed_timer_(executor),
      messages_(executor),
      internals_(executor),
      over_(executor),
      framer_(options) {
  if (options_.max_handles == 0) options_.max_handles = 1;
  assign(socket_, socket);
}

COHORT_INLINE void node_connection::check_open(const char* step) const {
  if (closed_ || leaving_) throw_error(step, errc::closed);
  if (broken_) std::rethrow_exception(broken_);
  if (ended_) throw_error(step, errc::peer_closed);
}

COHORT_INLINE void node_connection::check_end(const char* step) const {
  if (broken_) std::rethrow_exception(broken_);
  if (closed_) throw_error(step, operation_aborted());
  if (torn_) throw_error(std::string(step) + ": in the middle of a message", errc::peer_closed);
}

COHORT_INLINE std::shared_ptr<node_outgoing> node_connection::push(const char* step, std::string frame, int fd,
                                                                   std::optional<node_handle_type> type) {
  check_open(step);
  auto message = std::make_shared<node_outgoing>();
  message->bytes = std::move(frame);
  if (type) {
    message->fd = fd;
    message->has_handle = true;
    message->repeats = *type == node_handle_type::socket;
  }
  outbox_.push(message);
  flush_now();
  return message;
}

COHORT_INLINE void node_connection::queue(std::string frame, bool is_answer) {
  auto message = std::make_shared<node_outgoing>();
  message->is_answer = is_answer;
  message->bytes = std::move(frame);
  outbox_.push(std::move(message));
}

COHORT_INLINE asio::awaitable<void> node_connection::finish(ptr self, const char* step,
                                                            std::shared_ptr<node_outgoing> message) {
  // However this ends, also with the loop: the descriptor is the caller's, and may be closed from then on.
  const on_exit lets_go([&self, &message] {
    if (message->is_over()) return;
    if (!self->outbox_.withdraw(*message)) message->fd = -1;
  });
  if (!message->is_over()) message->changed.emplace(self->get_executor());
  while (!message->is_over()) {
    try {
      co_await message->changed->wait();
    } catch (...) {
      caught();
      if (message->is_over()) break;
      if (message->has_handle || message->state == node_outgoing::stage::waiting) {
        if (self->outbox_.withdraw(*message)) self->on_progress();
        throw;
      }
      co_return;  // it has begun, and goes out whole
    }
  }
  if (message->error) throw_error(step, message->error);
}

COHORT_INLINE asio::awaitable<std::optional<node_message>> node_connection::receive(ptr self, wanted which) {
  event& changed = which == wanted::internal ? self->internals_ : self->messages_;
  while (!self->inbox_.has(which)) {
    if (self->ended_ || self->closed_ || self->broken_) {
      self->check_end("receive");
      co_return std::nullopt;
    }
    co_await changed.wait();
  }
  const on_exit goes_on([&self] {
    self->acknowledge_held();
    self->read_on();
  });
  std::optional<node_message> result(self->inbox_.take(which));
  co_return result;
}

COHORT_INLINE asio::awaitable<void> node_connection::flush(ptr self) {
  self->check_open("flush");
  auto mark = std::make_shared<node_outgoing>();
  self->outbox_.push(mark);
  self->flush_now();
  co_await finish(self, "flush", mark);
}

COHORT_INLINE asio::awaitable<void> node_connection::disconnect(ptr self) {
  if (self->closed_ || self->broken_) co_return;
  self->leaving_ = true;
  self->flush_now();
  self->on_progress();
  co_await self->over_.wait();
}

COHORT_INLINE void node_connection::close() {
  if (closed_) return;
  flush_now();  // as far as the socket takes it
  closed_ = true;
  close_socket();
  outbox_.fail(make_error_code(errc::closed));
  inbox_.clear();
  wake_all();
}

COHORT_INLINE void node_connection::end() {
  if (socket_.is_open()) ::shutdown(socket_.native_handle(), SHUT_RDWR);
}

COHORT_INLINE void node_connection::close_socket() {
  retry_.cancel();
  closed_timer_.cancel();
  unclaimed_.clear();
  if (socket_.is_open()) const descriptor closing(socket_.release());
  over_.set();
}

COHORT_INLINE void node_connection::wake_all() {
  messages_.notify();
  internals_.notify();
}

COHORT_INLINE void node_connection::flush_now() {
  if (!socket_.is_open() || writing_ || ended_) return;
  const auto outcome = outbox_.write(socket_.native_handle());
  const int error = errno;
  switch (outcome) {
    case node_outbox::outcome::done: break;
    case node_outbox::outcome::blocked: resume_when_writable(); break;
    case node_outbox::outcome::more: resume_next_turn(); break;
    case node_outbox::outcome::starved: resume_later(); break;
    case node_outbox::outcome::failed:
      outbox_.fail(error == EPIPE || error == ECONNRESET ? make_error_code(errc::peer_closed)
                                                         : std::error_code(error, std::system_category()));
      // What the peer had said before can still be read, and then the end of it.
      ::shutdown(socket_.native_handle(), SHUT_WR);
      break;
  }
  on_progress();
}

COHORT_INLINE void node_connection::flush_soon() {
  if (flush_posted_ || writing_) return;
  flush_posted_ = true;
  asio::post(get_executor(), [this, alive = shared_from_this()] {
    flush_posted_ = false;
    flush_now();
  });
}

COHORT_INLINE void node_connection::on_progress() {
  if (leaving_ && outbox_.is_idle() && !closed_) {
    ended_ = true;
    close_socket();
    wake_all();
  }
  read_on();
}

COHORT_INLINE void node_connection::resume_when_writable() {
  writing_ = true;
  socket_.async_wait(asio::posix::stream_descriptor::wait_write, [this, alive = shared_from_this()](std::error_code e) {
    writing_ = false;
    if (!e) flush_now();
  });
}

COHORT_INLINE void node_connection::resume_next_turn() {
  writing_ = true;
  asio::post(get_executor(), [this, alive = shared_from_this()] {
    writing_ = false;
    flush_now();
  });
}

COHORT_INLINE void node_connection::resume_later() {
  writing_ = true;
  retry_.expires_after(std::chrono::milliseconds(2));
  retry_.async_wait([this, alive = shared_from_this()](std::error_code e) {
    writing_ = false;
    if (!e) flush_now();
  });
}

COHORT_INLINE void node_connection::on_end() {
  if (ended_ || closed_ || broken_) return;
  ended_ = true;
  torn_ = framer_.has_begun();
  outbox_.fail(make_error_code(errc::peer_closed));
  close_socket();
  wake_all();
}

COHORT_INLINE void node_connection::break_off(std::exception_ptr why) {
  if (ended_ || closed_ || broken_) return;
  broken_ = std::move(why);
  outbox_.fail(make_error_code(errc::malformed));
  close_socket();
  wake_all();
}

}  // namespace cohort::detail
