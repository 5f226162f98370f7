// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "send_handles.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <exception>
#include <functional>
#include <optional>
#include <utility>

#include "../../core/asio_error.hpp"
#include "../../core/error.hpp"
#include "../../core/event.hpp"
#include "link.hpp"

namespace cohort::detail {

COHORT_INLINE asio::awaitable<void> send_handle(std::shared_ptr<link> self, std::size_t type, encoded_message message,
                                                handle_ref object) {
  link::check_open(self, "send_handle");
  if (message.failure) std::rethrow_exception(message.failure);
  handle_kind kind = handle_kind::descriptor;
  const int fd = object.get(kind);
  if (fd < 0) throw_error("send_handle: the handle is not open", EBADF);
  message.bytes.data()[lease_head - 1] = static_cast<char>(kind);
  co_await link::lease(self, "send_handle", type, wire::kind::lease, std::move(message.bytes), lease_head,
                       std::span<const int>(&fd, 1));
  object.taken();
}

/// The leases of send_handles(): one coroutine and one event for all of them.
class lease_batch {
 public:
  lease_batch(std::shared_ptr<link> self, std::size_t type, byte_buffer payload, std::vector<handle_ref> objects,
              handle_ended ended)
      : link_(std::move(self)),
        changed_(link_->get_executor()),
        type_(type),
        payload_(std::move(payload)),
        objects_(std::move(objects)),
        leases_(objects_.size()),
        ended_(std::move(ended)),
        results(objects_.size()) {}

  lease_batch(const lease_batch&) = delete;

  asio::awaitable<void> run() {
    const std::function<bool()> ready = [this] { return has_news(); };
    try {
      for (begin(); ended_count_ < leases_.size(); begin()) {
        if (next_ == ended_count_) {  // it has nothing under way, and waits for room that no input may bring
          co_await changed_.wait();
        } else {
          co_await read_baton::wait(link_, changed_, ready);
        }
        take_answers();
      }
    } catch (...) {
      give_back(code_of(std::current_exception()));
    }
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  using lease = lease_window::lease;

  /// Gives as many as the window has room for.
  void begin() {
    const std::size_t before = next_;
    for (; next_ < leases_.size(); ++next_) {
      handle_kind kind = handle_kind::descriptor;
      const int fd = objects_[next_].get(kind);
      if (const auto error = fd < 0 ? std::error_code(EBADF, std::system_category()) : obstacle()) {
        end(next_, error);
        continue;
      }
      if (!has_turn()) break;
      lease& mine = leases_[next_].emplace(link_->given(), changed_);
      wire::store(payload_.data(), mine.id, 8);
      payload_.data()[lease_head - 1] = static_cast<char>(kind);
      mine.sent = link_->out().append_handles(wire::kind::lease, payload_, std::span<const int>(&fd, 1));
    }
    if (next_ == leases_.size()) place_.reset();
    if (next_ != before) link_->flush_soon();
  }

  /// What stands in the way of giving one more.
  std::error_code obstacle() {
    try {
      link_->check_sendable("send_handles", type_);
      link_->check_size("send_handles", type_, payload_.size() - lease_head, wire::max_frame - lease_head);
    } catch (...) {
      return code_of(std::current_exception());
    }
    return {};
  }

  bool has_turn() {
    if (!place_ && link_->given().has_room()) return true;
    if (!place_) place_.emplace(link_->given(), changed_);
    return place_->has_come();
  }

  bool is_settled(const lease& mine) const {
    // What the peer may have got before writing failed, it may also have adopted: its last words are still to be read.
    return mine.state != lease_window::state::pending || mine.error != 0 || link_->state().input_ended() ||
           (link_->writes().error() && link_->out().begun() < mine.sent);
  }

  bool has_news() const {
    if (place_ && (place_->has_come() || !link_->is_sendable(type_))) return true;
    return std::any_of(leases_.begin(), leases_.begin() + static_cast<std::ptrdiff_t>(next_),
                       [this](const auto& each) { return each && is_settled(*each); });
  }

  void take_answers() {
    for (std::size_t i = 0; i < next_; ++i) {
      if (leases_[i] && is_settled(*leases_[i])) end(i, outcome(*leases_[i]));
    }
  }

  std::error_code outcome(const lease& mine) {
    if (mine.state == lease_window::state::adopted) return {};
    if (mine.error != 0) return {mine.error, std::system_category()};
    if (mine.state == lease_window::state::refused) return make_error_code(link::error_of(mine.reason));
    const bool closed = link_->state().closed;
    if (!closed) link_->out().withdraw(mine.sent);
    if (link_->state().broken) return code_of(link_->state().broken);
    return make_error_code(closed ? errc::closed : errc::peer_closed);
  }

  /// Ends all that have no answer.
  void give_back(std::error_code why) {
    place_.reset();
    for (std::size_t i = 0; i < next_; ++i) {
      if (!leases_[i]) continue;
      const bool adopted = leases_[i]->state == lease_window::state::adopted;
      if (!adopted) link_->revoke(*leases_[i]);
      end(i, adopted ? std::error_code() : why);
    }
    while (next_ < leases_.size()) end(next_++, why);
  }

  void end(std::size_t which, std::error_code error) {
    leases_[which].reset();
    if (!error) objects_[which].taken();
    results[which] = error;
    ++ended_count_;
    if (ended_) ended_(which, error);
  }

  /// Of what is no system_error there is no code: the operation throws it at its end.
  std::error_code code_of(const std::exception_ptr& thrown) {
    if (const auto error = system_error_in(thrown)) return error->code();
    failure_ = thrown;
    return make_error_code(errc::malformed);
  }

  std::shared_ptr<link> link_;
  event changed_;
  std::size_t type_;
  byte_buffer payload_;
  std::vector<handle_ref> objects_;
  std::vector<std::optional<lease>> leases_;
  std::optional<lease_window::place> place_;  // while there is no room for the next one
  handle_ended ended_;
  std::exception_ptr failure_;
  std::size_t next_ = 0;  // that has not begun
  std::size_t ended_count_ = 0;

 public:
  std::vector<std::error_code> results;
};

COHORT_INLINE asio::awaitable<std::vector<std::error_code>> send_handles(std::shared_ptr<link> self, std::size_t type,
                                                                         encoded_message message,
                                                                         std::vector<handle_ref> objects,
                                                                         handle_ended ended) {
  link::check_open(self, "send_handles");
  if (message.failure) std::rethrow_exception(message.failure);
  lease_batch batch(std::move(self), type, std::move(message.bytes), std::move(objects), std::move(ended));
  co_await batch.run();
  co_return std::move(batch.results);
}

COHORT_INLINE asio::awaitable<void> send_parcel(std::shared_ptr<link> self, std::size_t type, encoded_message message,
                                                void (*taken)(void*), void* object) {
  link::check_open(self, "send");
  if (message.failure) std::rethrow_exception(message.failure);
  byte_buffer payload;
  char* const to = payload.grow(parcel_head + message.bytes.size());
  std::memcpy(to + parcel_head, message.bytes.data(), message.bytes.size());
  co_await link::lease(self, "send", type, wire::kind::parcel, std::move(payload), parcel_head, message.handles);
  if (taken != nullptr) taken(object);
}

}  // namespace cohort::detail
