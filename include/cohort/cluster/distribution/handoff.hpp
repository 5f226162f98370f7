// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include <sys/resource.h>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../core/event.hpp"
#include "../../core/task_group.hpp"
#include "../../ipc/handle.hpp"
#include "../../worker/protocol.hpp"
#include "../../net/acceptor.hpp"
#include "../distribution.hpp"
#include "../picker.hpp"
#include "../supervision/worker_process.hpp"

namespace cohort {

/// The distributions of which the primary accepts: it leases each socket to a worker that a picker chooses. The queue
/// of accepted sockets belongs to the listener, not to a worker: one that dies or refuses leaves what it has not taken
/// to the others.
class handoff_distributor final : public distributor {
 public:
  /// `max_open`: connections that a worker may have, 0 for no limit. `failed(std::exception_ptr)` is called when the
  /// listener breaks, for good.
  template <class Failed>
  handoff_distributor(const asio::any_io_executor& executor, descriptor socket, std::uint32_t number, picking how,
                      std::size_t max_open, Failed failed, queue_owner owner = queue_owner::cluster)
      : distributor(owner),
        tasks_(executor),
        changed_(executor),
        acceptor_(executor, std::move(socket)),
        how_(std::move(how)),
        max_open_(max_open),
        number_(number) {
    tasks_.start(accept(), [this, failed = std::move(failed)](std::exception_ptr failure) {
      if (failure && !stopping_) failed(failure);
    });
  }

  void join(const worker_ptr& who) override {
    workers_.push_back(std::make_shared<worker_entry>(who));
    if (how_.counts || max_open_ != 0) who->tell(worker_protocol::count_connections());
    changed_.notify();
  }

  void leave(const worker_ptr& who) override {
    // Those that wait for an answer from it keep the place alive until they have one.
    const auto at = std::find_if(workers_.begin(), workers_.end(), [&](const auto& each) { return each->who == who; });
    if (at == workers_.end()) return;
    workers_.erase(at);
    changed_.notify();
  }

  asio::awaitable<void> stop() override {
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

  void cancel() override {
    if (!std::exchange(stopping_, true)) acceptor_.close();
    tasks_.cancel();
  }

  std::vector<int> sockets() const override {
    std::vector<int> result;
    if (acceptor_.is_open()) result.push_back(acceptor_.native_handle());
    return result;
  }

  void on_ended() override { changed_.notify(); }

  bool workers_accept() const noexcept override { return false; }

 private:
  // Leases that a worker has not answered. More would only wait in its channel instead of in the kernel's queue.
  static constexpr std::size_t max_in_flight = 32;

  struct worker_entry {
    explicit worker_entry(worker_ptr w) : who(std::move(w)) {}
    worker_ptr who;
    std::size_t in_flight = 0;
    bool gone = false;  // its channel has ended, which leave() will follow
  };

  // One of a worker's leases, from the choice of the worker to its answer.
  class lease_guard {
   public:
    lease_guard() = default;
    lease_guard(handoff_distributor& owner, std::shared_ptr<worker_entry> at) : owner_(&owner), at_(std::move(at)) {
      ++at_->in_flight;
      ++at_->who->leased;
    }
    lease_guard(lease_guard&& other) noexcept = default;
    lease_guard& operator=(lease_guard&& other) noexcept {
      release();
      owner_ = other.owner_;
      at_ = std::move(other.at_);
      return *this;
    }
    ~lease_guard() { release(); }

    explicit operator bool() const noexcept { return at_ != nullptr; }
    worker_process& who() const noexcept { return *at_->who; }

    /// The worker has it.
    void keep() {
      if (at_ && at_->in_flight-- == max_in_flight) owner_->changed_.notify();
      at_ = nullptr;
    }

    void release() {
      if (at_) --at_->who->leased;
      keep();
    }

    /// The worker is gone: nobody should choose it again.
    void lose() {
      at_->gone = true;
      release();
    }

   private:
    handoff_distributor* owner_ = nullptr;
    std::shared_ptr<worker_entry> at_;
  };

  // A socket without a worker to go to. While there is one nothing more is accepted, so that it comes first.
  struct undelivered_guard {
    explicit undelivered_guard(handoff_distributor& o) : owner(o) { ++owner.undelivered_; }
    undelivered_guard(const undelivered_guard&) = delete;
    ~undelivered_guard() {
      if (--owner.undelivered_ == 0) owner.changed_.notify();
    }
    handoff_distributor& owner;
  };

  /// Whether a worker can be chosen; one that has many leases to answer only if it must be this one.
  bool is_free(const worker_entry& at) const {
    return !at.gone && (max_open_ == 0 || at.who->open() < max_open_) &&
           (!how_.spreads || at.in_flight < max_in_flight);
  }

  // A socket whose number says that the descriptor table is nearly full (accept(2) takes the lowest one that is free).
  // While there is one nothing more is accepted: the rest of the table is for starting workers, without whom a table
  // full of connections would stay full.
  struct high_number {
    high_number(handoff_distributor& o, int fd) : owner(o), counts(fd >= o.crowded_from_) {
      if (counts) ++owner.high_numbers_;
    }
    high_number(const high_number&) = delete;
    ~high_number() {
      if (counts && --owner.high_numbers_ == 0) owner.changed_.notify();
    }
    handoff_distributor& owner;
    const bool counts;
  };

  /// Three quarters of the descriptors that this process may have.
  static int crowded_from() noexcept {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return std::numeric_limits<int>::max();
    const auto most = std::min<rlim_t>(limit.rlim_cur, static_cast<rlim_t>(std::numeric_limits<int>::max()));
    return static_cast<int>(most - most / 4);
  }

  /// Whether there is a worker for one more from the kernel's queue.
  bool has_room() const {
    return undelivered_ == 0 && high_numbers_ == 0 &&
           std::any_of(workers_.begin(), workers_.end(),
                       [this](const auto& each) { return is_free(*each) && each->in_flight < max_in_flight; });
  }

  /// The worker for this connection; none if all are full or there is none.
  lease_guard pick(const any_handle& connection) {
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

  asio::awaitable<void> accept() {
    constexpr int at_a_time = 64;
    while (!stopping_) {
      // Nobody takes more: it stays in the kernel's queue, where it costs nothing and is not lost with anybody.
      while (!has_room() && !stopping_) co_await changed_.wait();
      bool shortage = false;
      try {
        if (!stopping_) co_await acceptor_.wait();
        for (int i = 0; i < at_a_time && has_room() && !stopping_; ++i) {
          descriptor accepted = acceptor_.try_accept();
          if (!accepted) break;
          deliver_soon(std::move(accepted));
        }
      } catch (const std::system_error& error) {
        if (stopping_) co_return;
        if (!acceptor::is_shortage(error.code())) throw;
        shortage = true;
      }
      if (shortage) co_await acceptor_.pause();
    }
  }

  /// Takes what waits in the kernel's queue, as room comes for it, and closes the listener then: what has got through
  /// the handshake expects an answer.
  asio::awaitable<void> empty_queue() {
    stop_handshakes(acceptor_.native_handle());
    co_await last_call();
    for (;;) {
      while (!has_room()) co_await changed_.wait();
      bool shortage = false;
      try {
        descriptor accepted = acceptor_.try_accept();
        if (!accepted) break;
        deliver_soon(std::move(accepted));
      } catch (const std::system_error& error) {
        if (!acceptor::is_shortage(error.code())) throw;
        shortage = true;
      }
      if (shortage) co_await acceptor_.pause();
    }
    acceptor_.close();
  }

  void deliver_soon(descriptor accepted) {
    any_handle socket(acceptor_.accepts(), std::move(accepted));
    lease_guard to = pick(socket);
    tasks_.start(deliver(std::move(socket), std::move(to)), [](std::exception_ptr) {});
  }

  /// Takes the socket to a worker, and to another one if that does not take it.
  asio::awaitable<void> deliver(any_handle socket, lease_guard to) {
    const high_number crowds(*this, socket.native_handle());
    std::optional<undelivered_guard> waits;
    worker_protocol::serve message;
    message.listener = number_;
    for (;;) {
      if (!to) to = pick(socket);
      if (!to && !waits) waits.emplace(*this);
      while (!to) {
        co_await changed_.wait();
        to = pick(socket);
      }
      waits.reset();
      bool lost = false;
      try {
        co_await to.who().peer.send_handle(message, std::move(socket));
        to.keep();
        co_return;
      } catch (const std::system_error& error) {
        if (error.code() == asio::error::operation_aborted) throw;
        lost = error.code() == errc::handle_lost;
        if (error.code() == errc::peer_closed || error.code() == errc::closed) to.lose();
      }
      to.release();
      if (!lost) waits.emplace(*this);  // it comes before those in the queue
      // Its descriptor table is full, or it drains and the word of that is still on its way: not again at once.
      asio::steady_timer pause(tasks_.get_executor(), std::chrono::milliseconds(lost ? 50 : 1));
      co_await pause.async_wait(asio::use_awaitable);
    }
  }

  task_group tasks_;
  event changed_;  // a worker came or went, or has room again
  acceptor acceptor_;
  picking how_;
  std::vector<std::shared_ptr<worker_entry>> workers_;
  std::vector<candidate> candidates_;  // while one is picked; kept for its room
  std::size_t max_open_;
  std::size_t undelivered_ = 0;
  std::size_t high_numbers_ = 0;
  int crowded_from_ = crowded_from();
  std::uint32_t number_;
  bool stopping_ = false;
};

}  // namespace cohort
