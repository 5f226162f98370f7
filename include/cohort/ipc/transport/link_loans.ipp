// SPDX-License-Identifier: BSL-1.0
// What a link does with loans: the memory that this side lends, and what the peer has lent.
#pragma once

#include "link.hpp"

#include "../../core/asio_error.hpp"
#include "../../core/config.hpp"

#include <cerrno>
#include <functional>
#include <string>
#include <system_error>
#include <utility>

namespace cohort {

namespace detail {

/// The bytes of this side's pool.
COHORT_INLINE std::size_t pool_size(const channel_options& options) {
  constexpr std::size_t page = 4096, most = std::size_t{1} << 46;
  if (options.loan_pool <= most) return (options.loan_pool + page - 1) / page * page;
  throw_error("loan: loan_pool of " + std::to_string(options.loan_pool) + " bytes, at most " + std::to_string(most),
              errc::invalid_option);
}

}  // namespace detail

COHORT_INLINE asio::awaitable<detail::loan_piece> link::lend(std::shared_ptr<link> self, std::size_t bytes) {
  check_open(self, "loan");
  const auto check = [&self] {
    if (self->state_.broken) std::rethrow_exception(self->state_.broken);
    if (self->state_.closed || self->writes_.is_disconnected()) throw_error("loan", errc::closed);
    if (self->writes_.error()) throw_error("loan", self->writes_.error());
  };
  check();
  const std::size_t all = detail::pool_size(self->options_);
  if (bytes > all) {
    throw_error("loan: " + std::to_string(bytes) + " bytes, of a pool of " + std::to_string(all),
                errc::message_too_large);
  }
  if (!self->lending_) self->lending_ = std::make_shared<detail::loan_pool>(all, self->options_.max_loans);
  const auto pool = self->lending_;
  // What the peer has given back may lie in the socket: it is better than memory that nobody has touched.
  if (!pool->has_touched(bytes) && !self->reads_.is_held() && !self->is_full()) {
    self->reads_.read_now();
    check();
  }
  if (!pool->has_room(bytes)) {
    event changed(self->get_executor());
    detail::loan_pool::place mine(*pool, [&self, &changed] {
      changed.notify();
      if (self->is_open()) self->reads_.look_again();  // it may be this one who reads
    });
    const std::function<bool()> ready = [&] { return !self->is_writable() || mine.has_come(bytes); };
    co_await detail::read_baton::wait(self, changed, ready);
    check();
    co_return detail::loan_piece(pool, pool->take(bytes));
  }
  co_return detail::loan_piece(pool, pool->take(bytes));
}

COHORT_INLINE void link::pass_pool() {
  detail::loan_pool& pool = *lending_;
  if (pool.fd && pool.passed_with == 0) {
    byte_buffer size;
    wire::store(size.grow(8), pool.size(), 8);
    const int fd = pool.fd.get();
    pool.passed_with = out().append_handles(wire::kind::pool, size, std::span<const int>(&fd, 1));
  } else if (pool.fd && out().completed() >= pool.passed_with) {
    pool.fd.reset();
  }
}

COHORT_INLINE asio::awaitable<void> link::send_loan(std::shared_ptr<link> self, std::size_t type,
                                                    detail::encoded_message message, detail::loan_piece& what,
                                                    std::size_t count, detail::loan_type of) {
  check_open(self, "send");
  self->check_sendable("send", type);
  if (message.failure) std::rethrow_exception(message.failure);
  if (!what.pool() || what.pool() != self->lending_) throw_error("send: a loan that is not of this channel", EINVAL);
  self->check_size("send", type, message.bytes.size() - detail::loan_head, wire::max_frame - detail::loan_head);
  self->pass_pool();
  const auto pool = self->lending_;
  const std::uint64_t id = pool->lend(what.range());
  what.release();
  char* const head = message.bytes.data();
  wire::store(head, id, 8);
  wire::store(head + 24, of.hash, 8);
  wire::store(head + 8, pool->range_of(id).offset, 8);
  wire::store(head + 16, count, 8);
  wire::store(head + 32, of.size, 4);
  try {
    const auto sent = self->out().append(wire::kind::loan, std::move(message.bytes));
    pool->sent(id, sent);
    self->flush_now();
    if (self->out().completed() < sent) co_await written(self, "send", sent, true);
  } catch (...) {
    detail::caught();
    if (const auto range = pool->take_back(id)) what = detail::loan_piece(pool, *range);
    throw;
  }
}

COHORT_INLINE asio::awaitable<void> link::wait_loan(std::shared_ptr<link> self) {
  return detail::read_baton::wait(self, self->changed_.loans,
                                  [link = self.get()] { return link->borrowed_.has_loan() || link->messages_ended(); });
}

COHORT_INLINE detail::arrived_loan link::pop_loan() {
  const bool was_full = is_full();
  detail::arrived_loan first = borrowed_.pop();
  resume_reading(was_full);
  return first;
}

COHORT_INLINE void link::give_back_loan(std::uint64_t id, std::size_t offset) noexcept {
  borrowed_.release(offset);
  if (!is_open() || writes_.error()) return;  // nobody hears it
  try {
    char payload[8];
    wire::store(payload, id, 8);
    out().control(wire::kind::returned, payload, sizeof payload);
    flush_soon();
  } catch (...) {
    break_off(std::current_exception());
  }
}

COHORT_INLINE void link::on_pool(const descriptor& memory, std::uint64_t size) {
  if (borrowed_.has_pool()) throw_error("receive: a second pool of loans", errc::malformed);
  if (size > options_.max_peer_pool) {
    throw_error("receive: a pool of " + std::to_string(size) + " bytes to borrow from, at most " +
                    std::to_string(options_.max_peer_pool),
                errc::malformed);
  }
  if (!memory) throw_error("receive: no descriptor is free for the peer's pool of loans", errc::handle_lost);
  borrowed_.attach(memory, size);
}

COHORT_INLINE void link::on_loan(const char* data, std::size_t size) {
  borrowed_.arrive(data, size);
  if (reads_.is_wanted()) changed_.loans.notify();
}

COHORT_INLINE void link::on_returned(std::uint64_t id) {
  if (!lending_) throw_error("receive: a loan given back, and none was made", errc::malformed);
  lending_->settle(id, out().begun());
}

COHORT_INLINE void link::end_lending() noexcept {
  if (const auto ended = std::exchange(lending_, nullptr)) ended->wake_all();
}

}  // namespace cohort
