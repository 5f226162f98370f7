// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "handoff.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>
#include <ranges>
#include <system_error>

#include <sys/resource.h>

#include "../../core/asio_error.hpp"
#include "../../worker/protocol.hpp"

namespace cohort {

COHORT_INLINE handoff_distributor::handoff_distributor(const asio::any_io_executor& executor, descriptor socket,
                                                       std::uint32_t number, picking how, std::size_t max_open,
                                                       std::function<void(std::exception_ptr)> failed,
                                                       queue_owner owner, handing_over by)
    : distributor(owner),
      tasks_(executor),
      changed_(executor),
      acceptor_(executor, std::move(socket)),
      how_(std::move(how)),
      by_(std::move(by)),
      max_open_(max_open),
      max_in_flight_(by_.max_in_flight == 0 ? max_in_flight : std::min(by_.max_in_flight, max_in_flight)),
      number_(number) {
  tasks_.start(accept(), [this, failed = std::move(failed)](std::exception_ptr failure) {
    if (failure && !stopping_) failed(failure);
  });
}

COHORT_INLINE void handoff_distributor::join(const worker_ptr& who) {
  workers_.push_back(std::make_shared<worker_entry>(who));
  if (how_.counts || max_open_ != 0) who->tell(worker_protocol::count_connections());
  changed_.notify();
}

COHORT_INLINE void handoff_distributor::leave(const worker_ptr& who) {
  // Those that wait for an answer from it keep the place alive until they have one.
  const auto at = std::find_if(workers_.begin(), workers_.end(), [&](const auto& each) { return each->who == who; });
  if (at == workers_.end()) return;
  workers_.erase(at);
  changed_.notify();
}

COHORT_INLINE asio::awaitable<void> handoff_distributor::stop() {
  if (!std::exchange(stopping_, true)) {
    changed_.notify();
    if (owner_ == queue_owner::others) {
      acceptor_.close();
    } else {
      tasks_.start(empty_queue(), [this](std::exception_ptr) { acceptor_.close(); });
    }
  }
  co_await tasks_.wait_empty();
}

COHORT_INLINE void handoff_distributor::cancel() {
  if (!std::exchange(stopping_, true)) acceptor_.close();
  tasks_.cancel();
  accepted_.clear();
}

COHORT_INLINE std::vector<int> handoff_distributor::sockets() const {
  std::vector<int> result;
  if (acceptor_.is_open()) result.push_back(acceptor_.native_handle());
  return result;
}

COHORT_INLINE handoff_distributor::lease_guard::lease_guard(handoff_distributor& owner,
                                                            std::shared_ptr<worker_entry> at)
    : owner_(&owner), at_(std::move(at)) {
  ++at_->in_flight;
  ++at_->who->figures.leased;
  constexpr worker_process::clock::time_point none{};
  while (at_->begun[place_] != none) ++place_;  // one is free: see is_free()
  at_->begun[place_] = worker_process::clock::now();
}

COHORT_INLINE handoff_distributor::lease_guard& handoff_distributor::lease_guard::operator=(
    lease_guard&& other) noexcept {
  release();
  owner_ = other.owner_;
  at_ = std::move(other.at_);
  place_ = other.place_;
  return *this;
}

COHORT_INLINE void handoff_distributor::lease_guard::keep() {
  if (at_) at_->begun[place_] = {};
  if (at_ && at_->in_flight-- == owner_->max_in_flight_) owner_->changed_.notify();
  at_ = nullptr;
}

COHORT_INLINE void handoff_distributor::lease_guard::release() {
  if (at_) --at_->who->figures.leased;
  keep();
}

COHORT_INLINE void handoff_distributor::lease_guard::lose() {
  at_->gone = true;
  release();
}

COHORT_INLINE void handoff_distributor::lease_guard::refuse() {
  at_->rests = true;
  owner_->tasks_.start(owner_->rest(at_));
  release();
}

COHORT_INLINE handoff_distributor::undelivered_guard::~undelivered_guard() {
  if (--owner.undelivered_ == 0) owner.changed_.notify();
}

COHORT_INLINE bool handoff_distributor::is_free(const worker_entry& at) const {
  return !at.gone && !at.rests && (max_open_ == 0 || at.who->open() < max_open_) && at.in_flight < max_in_flight_;
}

COHORT_INLINE bool handoff_distributor::is_overdue(const worker_process& who, std::chrono::milliseconds limit) const {
  constexpr worker_process::clock::time_point none{};
  if (max_open_ != 0 && who.figures.health.open >= max_open_) return false;
  const auto is_his = [&](const auto& each) { return each->who.get() == &who; };
  const auto at = std::find_if(workers_.begin(), workers_.end(), is_his);
  if (at == workers_.end() || (*at)->in_flight == 0) return false;
  const auto now = worker_process::clock::now();
  return std::any_of((*at)->begun.begin(), (*at)->begun.end(),
                     [&](auto begun) { return begun != none && now - begun > limit && who.figures.pinged_at > begun; });
}

COHORT_INLINE handoff_distributor::high_number::high_number(handoff_distributor& o, int fd)
    : owner(fd >= o.crowded_from_ ? &o : nullptr) {
  if (owner != nullptr) ++owner->high_numbers_;
}

COHORT_INLINE handoff_distributor::high_number::~high_number() {
  if (owner != nullptr && --owner->high_numbers_ == 0) owner->changed_.notify();
}

COHORT_INLINE int handoff_distributor::crowded_from() noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return std::numeric_limits<int>::max();
  const auto most = std::min<rlim_t>(limit.rlim_cur, static_cast<rlim_t>(std::numeric_limits<int>::max()));
  return static_cast<int>(most - most / 4);
}

COHORT_INLINE bool handoff_distributor::has_room() const {
  return undelivered_ == 0 && high_numbers_ == 0 &&
         std::any_of(workers_.begin(), workers_.end(), [this](const auto& each) { return is_free(*each); });
}

COHORT_INLINE handoff_distributor::lease_guard handoff_distributor::pick(const any_handle& connection) {
  candidates_.clear();
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    if (!is_free(*workers_[i])) continue;
    const auto& who = *workers_[i]->who;
    candidates_.push_back({who.number(), who.pid(), who.open(), workers_[i]->in_flight, i});
  }
  if (candidates_.empty()) return lease_guard();
  const std::size_t chosen = how_.pick(connection, candidates_);
  return lease_guard(*this, workers_[candidates_[chosen < candidates_.size() ? chosen : 0].place]);
}

COHORT_INLINE asio::awaitable<void> handoff_distributor::accept() {
  constexpr std::size_t at_a_time = 64;
  const acceptor::taker take = [this](descriptor accepted) { deliver_soon(std::move(accepted)); };
  const acceptor::condition wanted = [this] { return has_room() && !stopping_; };
  auto result = accept_result::more;
  while (result != accept_result::ended && !stopping_) {
    // Nobody takes more: it stays in the kernel's queue, where it costs nothing and is not lost with anybody.
    while (!has_room() && !stopping_) co_await changed_.wait();
    if (!stopping_) result = co_await acceptor_.accept_some(at_a_time, take, wanted);
  }
}

COHORT_INLINE asio::awaitable<void> handoff_distributor::empty_queue() {
  constexpr auto all = std::numeric_limits<std::size_t>::max();
  const acceptor::taker take = [this](descriptor accepted) { deliver_soon(std::move(accepted)); };
  const acceptor::condition wanted = [this] { return has_room(); };
  stop_handshakes(acceptor_.native_handle());
  co_await last_call();
  for (auto result = accept_result::more; result == accept_result::more || result == accept_result::shortage;) {
    while (!has_room()) co_await changed_.wait();
    result = acceptor_.accept_waiting(all, take, wanted);
    if (result == accept_result::shortage) co_await acceptor_.pause();
  }
  acceptor_.close();
}

COHORT_INLINE void handoff_distributor::deliver_soon(descriptor accepted) {
  any_handle socket(acceptor_.accepts(), std::move(accepted));
  lease_guard to = pick(socket);
  if (!to || by_.give) {
    tasks_.start(deliver(std::move(socket), std::move(to)));
    return;
  }
  high_number crowds(*this, socket.native_handle());
  accepted_.push_back({std::move(socket), std::move(to), std::move(crowds)});
  if (accepted_.size() == 1) tasks_.start(hand_out());
}

COHORT_INLINE asio::awaitable<void> handoff_distributor::hand_out() {
  co_await asio::post(tasks_.get_executor(), asio::use_awaitable);
  while (!accepted_.empty()) {
    const worker_ptr who = accepted_.front().to.who();
    deliveries those;
    for (auto at = accepted_.begin(); at != accepted_.end();) {
      const auto each = at++;
      if (each->to.who() == who) those.splice(those.end(), accepted_, each);
    }
    tasks_.start(give(who, std::move(those)));
  }
}

COHORT_INLINE asio::awaitable<void> handoff_distributor::give(worker_ptr who, deliveries those) {
  std::vector<delivery*> places;
  for (auto& each : those) places.push_back(&each);
  const handle_ended ended = [this, &places](std::size_t which, std::error_code error) {
    delivery& its = *places[which];
    if (!error) return its.to.keep();
    if (error == operation_aborted()) return;  // cancel() closes them all
    tasks_.start(deliver(std::move(its.socket), std::move(its.to), error));
  };
  worker_protocol::serve message;
  message.listener = number_;
  const auto socket_of = [](delivery* each) -> any_handle& { return each->socket; };
  auto sockets = places | std::views::transform(socket_of);
  std::error_code failed;
  try {
    co_await who->peer.send_handles(message, sockets, ended);
  } catch (...) {
    failed = detail::caught().code();
  }
  for (std::size_t i = 0; failed && i < places.size(); ++i) {
    if (places[i]->to) ended(i, failed);
  }
}

COHORT_INLINE asio::awaitable<bool> handoff_distributor::hand_to(worker_ptr who, any_handle& socket) {
  if (by_.give) {
    const bool taken = co_await by_.give(who, socket);
    co_return taken;
  }
  worker_protocol::serve message;
  message.listener = number_;
  co_await who->peer.send_handle(message, std::move(socket));
  co_return true;
}

COHORT_INLINE asio::awaitable<void> handoff_distributor::rest(std::shared_ptr<worker_entry> at) {
  asio::steady_timer pause(tasks_.get_executor(), rest_time);
  co_await pause.async_wait(detail::awaited);
  at->rests = false;
  changed_.notify();
}

COHORT_INLINE asio::awaitable<void> handoff_distributor::deliver(any_handle socket, lease_guard to,
                                                                 std::error_code failed) {
  const high_number crowds(*this, socket.native_handle());
  std::optional<undelivered_guard> waits;
  for (;; failed = {}) {
    if (!failed) {
      if (!to) to = pick(socket);
      if (!to && !waits) waits.emplace(*this);
      while (!to) {
        co_await changed_.wait();
        to = pick(socket);
      }
      waits.reset();
      try {
        const bool taken = co_await hand_to(to.who(), socket);
        if (taken) {
          to.keep();
          co_return;
        }
        to.refuse();
        continue;
      } catch (...) {
        failed = detail::caught().code();
        if (failed == operation_aborted()) throw;
      }
    }
    const bool lost = failed == errc::handle_lost;
    if (failed == errc::peer_closed || failed == errc::closed) to.lose();
    to.release();
    if (!lost) waits.emplace(*this);  // it comes before those in the queue
    // Its descriptor table is full, or it drains and the word of that is still on its way: not again at once.
    asio::steady_timer pause(tasks_.get_executor(), std::chrono::milliseconds(lost ? 50 : 1));
    co_await pause.async_wait(detail::awaited);
  }
}

}  // namespace cohort
