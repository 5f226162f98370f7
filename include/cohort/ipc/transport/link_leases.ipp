// SPDX-License-Identifier: BSL-1.0
// What a link does with handles: those that this side gives, and those that have come.
#pragma once

#include "../../core/asio_error.hpp"
#include "link.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <functional>
#include <string>
#include <system_error>
#include <utility>

namespace cohort {

COHORT_INLINE asio::awaitable<void> link::lease(std::shared_ptr<link> self, const char* step, std::size_t type,
                                                wire::kind kind, byte_buffer payload, std::size_t head,
                                                std::span<const int> fds) {
  const auto check = [&] { self->check_sendable(step, type); };
  if (!self->given_.has_room()) co_await self->given_.wait_room(self->get_executor(), std::ref(check));
  check();
  self->check_size(step, type, payload.size() - head, wire::max_frame - head);

  event changed(self->get_executor());
  detail::lease_window::lease mine(self->given_, changed);
  wire::store(payload.data(), mine.id, 8);
  mine.sent = self->out().append_handles(kind, payload, fds);
  self->flush_soon();

  // What the peer may have got before writing failed, it may also have adopted: its last words are still to be read.
  const std::function<bool()> settled = [&] {
    return mine.state != lease_state::pending || mine.error != 0 || self->state_.input_ended() ||
           (self->writes_.error() && self->out().begun() < mine.sent);
  };
  try {
    co_await detail::read_baton::wait(self, changed, settled);
  } catch (...) {
    detail::caught();
    if (mine.state == lease_state::adopted) co_return;
    self->revoke(mine);
    throw;
  }
  if (mine.state == lease_state::adopted) co_return;
  if (mine.error != 0) throw_error(std::string(step) + ": the system does not pass this handle on", mine.error);
  if (mine.state == lease_state::pending) {
    if (!self->state_.closed) self->out().withdraw(mine.sent);
    if (self->state_.broken) std::rethrow_exception(self->state_.broken);
    throw_error(step, self->state_.closed ? errc::closed : errc::peer_closed);
  }
  throw_error(step, error_of(mine.reason));
}

COHORT_INLINE void link::revoke(const detail::lease_window::lease& mine) {
  if (mine.error != 0 || state_.closed || out().withdraw(mine.sent)) return;
  byte_buffer revoked;
  wire::store(revoked.grow(8), mine.id, 8);
  out().append(wire::kind::revoked, std::move(revoked));
  flush_soon();
}

COHORT_INLINE asio::awaitable<void> link::wait_lease(std::shared_ptr<link> self) {
  return detail::read_baton::wait(self, self->changed_.leases,
                                  [link = self.get()] { return link->inbox_.has_lease() || link->messages_ended(); });
}

COHORT_INLINE detail::arrived_lease link::pop_lease() {
  const bool was_full = is_full();
  detail::arrived_lease first = inbox_.pop_lease();
  if (was_full && !is_full()) reads_.pass_on();
  return first;
}

COHORT_INLINE void link::adopt(std::uint64_t id) {
  if (writes_.error()) return;  // nobody hears it
  char payload[8];
  wire::store(payload, id, 8);
  out().control(wire::kind::adopted, payload, sizeof payload);
  flush_soon();
}

COHORT_INLINE void link::refuse(std::uint64_t id, wire::refusal reason) {
  if (writes_.error()) return;
  char payload[9];
  wire::store(payload, id, 8);
  payload[8] = static_cast<char>(reason);
  out().control(wire::kind::refused, payload, sizeof payload);
  flush_soon();
}

COHORT_INLINE void link::decline_leases() {
  declining_ = true;
  inbox_.drop_leases([this](std::uint64_t id) { refuse(id, wire::refusal::declined); });
  if (!reads_.is_held()) reads_.pass_on();
}

COHORT_INLINE void link::on_revoked(std::uint64_t id) {
  inbox_.drop_lease(id);
  inbox_.drop_parcel(id);
}

COHORT_INLINE bool link::on_parcel(const detail::arrived_parcel& parcel) {
  const bool whole = std::all_of(parcel.handles.begin(), parcel.handles.end(),
                                 [](const descriptor& each) { return static_cast<bool>(each); });
  if (!whole) refuse(parcel.id, wire::refusal::lost);
  return whole;
}

COHORT_INLINE void link::on_lease(detail::arrived_lease lease) {
  if (!lease.fd) {
    refuse(lease.id, wire::refusal::lost);
  } else if (declining_) {
    refuse(lease.id, wire::refusal::declined);
  } else if (kind_of(lease.fd.get()) != lease.kind && lease.kind != handle_kind::descriptor) {
    refuse(lease.id, wire::refusal::wrong_kind);
  } else {
    inbox_.keep_lease(std::move(lease));
    if (reads_.is_wanted()) changed_.leases.notify();
  }
}

COHORT_INLINE errc link::error_of(wire::refusal reason) noexcept {
  switch (reason) {
    case wire::refusal::lost: return errc::handle_lost;
    case wire::refusal::wrong_kind: return errc::wrong_handle_kind;
    case wire::refusal::unknown: return errc::unknown_message;
    default: return errc::handle_refused;
  }
}

COHORT_INLINE void link::on_handles_refused(const std::vector<detail::outbox::refused>& which) {
  for (const auto& each : which) {
    given_.fail(each.which, each.error);
    if (lending_ && each.which == lending_->passed_with) {
      asio::post(get_executor(), [self = shared_from_this(), error = each.error] {  // this is the middle of a write
        self->break_off(std::make_exception_ptr(
            std::system_error(error, std::system_category(), "send: the system does not pass the pool of loans on")));
      });
    }
  }
}

COHORT_INLINE void link::settle(std::uint64_t id, lease_state answer, wire::refusal reason) {
  given_.settle(id, answer, reason, out().begun());
}

}  // namespace cohort
