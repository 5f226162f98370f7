// SPDX-License-Identifier: BSL-1.0
/// The ways from a listener to the workers: see the enumeration `distribution`.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "../core/asio.hpp"
#include "../core/descriptor.hpp"
#include "../core/error.hpp"
#include "../core/event.hpp"
#include "../core/task_group.hpp"
#include "../core/timeout.hpp"
#include "../worker/control.hpp"
#include "../worker/listener.hpp"
#include "slot.hpp"

namespace cohort {

/// Brings the connections of one listener to the workers of a cluster.
///
/// The cluster tells it who can serve; join() and leave() come in pairs, on the cluster's strand.
class distributor {
 public:
  using worker_ptr = std::shared_ptr<slot_worker>;

  virtual ~distributor() = default;

  /// A worker has become ready.
  virtual void join(const worker_ptr& who) = 0;

  /// It drains, stops or is gone: nothing more for it. What it was given and has not taken comes back by itself.
  virtual void leave(const worker_ptr& who) = 0;

  /// Ends the listening, for good, before the workers are asked to drain. Returns when all that had been accepted here
  /// is with a worker, or cancel() was called. May be called again.
  virtual asio::awaitable<void> stop() = 0;

  /// Ends what runs in the background, at once: connections that no worker has taken are closed, and stop() returns.
  virtual void cancel() = 0;

  /// Whether the workers accept themselves, and so must empty the queues when the cluster stops.
  virtual bool workers_accept() const noexcept = 0;

 protected:
  /// Lets the connections through that have begun when stop_handshakes() is called: those whose client is not farther
  /// away than this, and with TCP_DEFER_ACCEPT has said something by then.
  static asio::awaitable<void> last_call() {
    const auto executor = co_await asio::this_coro::executor;
    asio::steady_timer pause(executor, std::chrono::milliseconds(100));
    co_await pause.async_wait(asio::use_awaitable);
  }
};

/// Whose the queue of a listener is when the cluster stops.
enum class queue_owner {
  cluster,  ///< nobody else's: no more connections begin, and those that wait are served
  others,   ///< also somebody else's, who goes on listening: nothing is done to it, and those that wait are left there
};

/// distribution::round_robin. The queue of accepted sockets belongs to the listener, not to a worker: one that dies or
/// refuses leaves what it has not taken to the others.
class round_robin_distributor final : public distributor {
 public:
  /// `failed(std::exception_ptr)` is called when the listener breaks, for good.
  template <class Failed>
  round_robin_distributor(const asio::any_io_executor& executor, descriptor socket, std::uint32_t number, Failed failed,
                          queue_owner owner = queue_owner::cluster)
      : tasks_(executor), changed_(executor), listener_(executor, std::move(socket)), number_(number), owner_(owner) {
    tasks_.start(accept(), [this, failed = std::move(failed)](std::exception_ptr failure) {
      if (failure && !stopping_) failed(failure);
    });
  }

  void join(const worker_ptr& who) override {
    places_.push_back(std::make_shared<place>(who));
    changed_.notify();
  }

  void leave(const worker_ptr& who) override {
    // Those that wait for an answer from it keep the place alive until they have one.
    const auto at = std::find_if(places_.begin(), places_.end(), [&](const auto& each) { return each->who == who; });
    if (at == places_.end()) return;
    if (next_ > static_cast<std::size_t>(at - places_.begin())) --next_;
    places_.erase(at);
    changed_.notify();
  }

  asio::awaitable<void> stop() override {
    if (!std::exchange(stopping_, true)) {
      changed_.notify();
      if (owner_ == queue_owner::others) {
        listener_.close();
      } else {
        tasks_.start(empty_queue(), [this](std::exception_ptr) { listener_.close(); });
      }
    }
    co_await tasks_.wait_empty();
  }

  void cancel() override {
    if (!std::exchange(stopping_, true)) listener_.close();
    tasks_.cancel();
  }

  bool workers_accept() const noexcept override { return false; }

 private:
  // Leases that a worker has not answered. More would only wait in its channel instead of in the kernel's queue.
  static constexpr std::size_t max_in_flight = 32;

  struct place {
    explicit place(worker_ptr w) : who(std::move(w)) {}
    worker_ptr who;
    std::size_t in_flight = 0;
  };

  // One of a worker's leases, from the choice of the worker to its answer.
  class claim {
   public:
    claim() = default;
    claim(round_robin_distributor& owner, std::shared_ptr<place> at) : owner_(&owner), at_(std::move(at)) {
      ++at_->in_flight;
    }
    claim(claim&& other) noexcept = default;
    claim& operator=(claim&& other) noexcept {
      release();
      owner_ = other.owner_;
      at_ = std::move(other.at_);
      return *this;
    }
    ~claim() { release(); }

    explicit operator bool() const noexcept { return at_ != nullptr; }
    slot_worker& who() const noexcept { return *at_->who; }

    void release() {
      if (at_ && at_->in_flight-- == max_in_flight) owner_->changed_.notify();
      at_ = nullptr;
    }

   private:
    round_robin_distributor* owner_ = nullptr;
    std::shared_ptr<place> at_;
  };

  // A socket without a worker to go to. While there is one nothing more is accepted, so that it comes first.
  struct homeless {
    explicit homeless(round_robin_distributor& o) : owner(o) { ++owner.homeless_; }
    homeless(const homeless&) = delete;
    ~homeless() {
      if (--owner.homeless_ == 0) owner.changed_.notify();
    }
    round_robin_distributor& owner;
  };

  /// Whether there is a worker for one more from the kernel's queue.
  bool has_room() const {
    return homeless_ == 0 && std::any_of(places_.begin(), places_.end(),
                                         [](const auto& each) { return each->in_flight < max_in_flight; });
  }

  /// The next worker in turn that has room; none if all are full or there is none.
  claim pick() {
    for (std::size_t tried = 0; tried < places_.size(); ++tried) {
      if (next_ >= places_.size()) next_ = 0;
      const auto& chosen = places_[next_++];
      if (chosen->in_flight < max_in_flight) return claim(*this, chosen);
    }
    return claim();
  }

  asio::awaitable<void> accept() {
    constexpr int at_a_time = 64;
    while (!stopping_) {
      // Nobody takes more: it stays in the kernel's queue, where it costs nothing and is not lost with anybody.
      while (!has_room() && !stopping_) co_await changed_.wait();
      bool shortage = false;
      try {
        if (!stopping_) co_await listener_.wait();
        for (int i = 0; i < at_a_time && has_room() && !stopping_; ++i) {
          descriptor accepted = listener_.try_accept();
          if (!accepted) break;
          deliver_soon(std::move(accepted));
        }
      } catch (const std::system_error& error) {
        if (stopping_) co_return;
        if (!listener::is_shortage(error.code())) throw;
        shortage = true;
      }
      if (shortage) co_await listener_.pause();
    }
  }

  /// Takes what waits in the kernel's queue, as room comes for it, and closes the listener then: what has got through
  /// the handshake expects an answer.
  asio::awaitable<void> empty_queue() {
    stop_handshakes(listener_.native_handle());
    co_await last_call();
    for (;;) {
      while (!has_room()) co_await changed_.wait();
      bool shortage = false;
      try {
        descriptor accepted = listener_.try_accept();
        if (!accepted) break;
        deliver_soon(std::move(accepted));
      } catch (const std::system_error& error) {
        if (!listener::is_shortage(error.code())) throw;
        shortage = true;
      }
      if (shortage) co_await listener_.pause();
    }
    listener_.close();
  }

  void deliver_soon(descriptor accepted) {
    any_handle socket(listener_.accepts(), std::move(accepted));
    tasks_.start(deliver(std::move(socket), pick()), [](std::exception_ptr) {});
  }

  /// Takes the socket to a worker, and to another one if that does not take it.
  asio::awaitable<void> deliver(any_handle socket, claim to) {
    control::serve message;
    message.listener = number_;
    for (;;) {
      if (!to) to = pick();
      if (!to) {
        const homeless waits(*this);
        while (!to) {
          co_await changed_.wait();
          to = pick();
        }
      }
      bool lost = false;
      try {
        co_await to.who().peer.send_handle(message, std::move(socket));
        co_return;
      } catch (const std::system_error& error) {
        if (error.code() == asio::error::operation_aborted) throw;
        lost = error.code() == errc::handle_lost;
      }
      to.release();
      // Its descriptor table is full, or it drains and the word of that is still on its way: not again at once.
      asio::steady_timer pause(tasks_.get_executor(), std::chrono::milliseconds(lost ? 50 : 1));
      co_await pause.async_wait(asio::use_awaitable);
    }
  }

  task_group tasks_;
  event changed_;  // a worker came or went, or has room again
  listener listener_;
  std::vector<std::shared_ptr<place>> places_;
  std::size_t next_ = 0;
  std::size_t homeless_ = 0;
  std::uint32_t number_;
  queue_owner owner_;
  bool stopping_ = false;
};

/// Gives listeners to workers and takes them back; what distribution::shared and distribution::reuse_port have in
/// common.
class lending_distributor : public distributor {
 public:
  lending_distributor(const asio::any_io_executor& executor, std::uint32_t number, queue_owner owner)
      : tasks_(executor), owner_(owner), number_(number) {}

  void cancel() override { tasks_.cancel(); }

  bool workers_accept() const noexcept override { return owner_ == queue_owner::cluster; }

 protected:
  /// Gives a worker a copy of a listener; `done(bool)` says whether it has it. Returns the number of the loan.
  template <class Done>
  std::uint32_t lend(const worker_ptr& who, const descriptor& socket, std::chrono::milliseconds limit, Done done) {
    tasks_.start(lend_to(who, socket, ++last_loan_, limit, std::move(done)), [](std::exception_ptr) {});
    return last_loan_;
  }

  void take_back(const worker_ptr& who, std::uint32_t loan) {
    control::unlisten message;
    message.listener = number_;
    message.loan = loan;
    try {
      who->peer.post(message);
    } catch (const std::system_error&) {
      // It is gone, and its copy with it.
    }
  }

  /// Waits for the loans that are under way: what waits in such a listener has perhaps nobody else to accept it.
  asio::awaitable<void> finish_loans() {
    try {
      co_await with_timeout(tasks_.wait_empty(), std::chrono::seconds(1));
    } catch (const std::system_error&) {
      tasks_.cancel();
    }
    co_await tasks_.wait_empty();
  }

  task_group tasks_;
  queue_owner owner_;

 private:
  template <class Done>
  asio::awaitable<void> lend_to(worker_ptr who, const descriptor& socket, std::uint32_t loan,
                                std::chrono::milliseconds limit, Done done) {
    control::listen message;
    message.listener = number_;
    message.loan = loan;
    bool lent = false, lost = false;
    try {
      co_await with_timeout(who->peer.send_handle(message, socket), limit);
      lent = true;
    } catch (const std::system_error& error) {
      if (error.code() == asio::error::operation_aborted) throw;
      lost = error.code() == errc::handle_lost || error.code() == errc::unknown_message;
    }
    if (!lent) {
      take_back(who, loan);  // if the limit has passed, its answer may cross with this
      asio::steady_timer pause(tasks_.get_executor(), std::chrono::milliseconds(lost ? 50 : 1));
      co_await pause.async_wait(asio::use_awaitable);
    }
    done(lent);
  }

  std::uint32_t number_;
  std::uint32_t last_loan_ = 0;
};

/// distribution::shared.
class shared_distributor final : public lending_distributor {
 public:
  shared_distributor(const asio::any_io_executor& executor, descriptor socket, std::uint32_t number,
                     queue_owner owner = queue_owner::cluster)
      : lending_distributor(executor, number, owner), socket_(std::move(socket)) {}

  void join(const worker_ptr& who) override { give(who); }
  void leave(const worker_ptr& who) override { joined_.erase(who); }

  asio::awaitable<void> stop() override {
    // Closed here first, so that the last worker that empties the queue closes the listener with it.
    stopping_ = true;
    if (owner_ == queue_owner::cluster) {
      stop_handshakes(socket_.get());
      tasks_.start(last_call(), [](std::exception_ptr) {});
    }
    co_await finish_loans();
    if (owner_ == queue_owner::others) {
      for (const auto& [who, loan] : joined_) take_back(who, loan);
    }
    socket_.reset();
  }

 private:
  void give(const worker_ptr& who) {
    if (stopping_) return;
    joined_[who] = lend(who, socket_, std::chrono::hours(24), [this, who](bool lent) {
      // Not for want of a descriptor alone should a worker stay idle.
      if (lent || stopping_ || joined_.erase(who) == 0) return;
      give(who);
    });
  }

  descriptor socket_;
  std::map<worker_ptr, std::uint32_t> joined_;  // and the loan that each has
  bool stopping_ = false;
};

/// distribution::reuse_port. The sockets are the primary's for as long as it listens: what waits in the queue of a slot
/// whose worker has died is not lost, and is served by whom the listener is lent to.
class reuse_port_distributor final : public lending_distributor {
 public:
  /// `sockets`: one a slot, the first for slot 1.
  reuse_port_distributor(const asio::any_io_executor& executor, std::vector<descriptor> sockets, std::uint32_t number,
                         queue_owner owner = queue_owner::cluster)
      : lending_distributor(executor, number, owner) {
    std::uint32_t slot = 0;
    for (auto& socket : sockets) seats_.push_back(std::make_unique<seat>(std::move(socket), ++slot));
  }

  void join(const worker_ptr& who) override {
    joined_.push_back(who);
    settle();
  }

  void leave(const worker_ptr& who) override {
    std::erase(joined_, who);
    for (const auto& each : seats_) {
      if (each->holder == who) each->holder = nullptr;
    }
    settle();
  }

  asio::awaitable<void> stop() override {
    stopping_ = true;
    if (owner_ == queue_owner::cluster) {
      for (const auto& each : seats_) stop_handshakes(each->socket.get());
      tasks_.start(last_call(), [](std::exception_ptr) {});
    }
    co_await finish_loans();
    if (owner_ == queue_owner::others) {
      for (const auto& each : seats_) {
        if (each->holder) take_back(each->holder, each->loan);
      }
    }
    seats_.clear();
  }

 private:
  struct seat {
    seat(descriptor s, std::uint32_t n) : socket(std::move(s)), slot(n) {}
    descriptor socket;
    std::uint32_t slot;
    worker_ptr holder;       // who accepts there, or is about to
    std::uint32_t loan = 0;  // which its copy came with
    bool moving = false;     // until the holder has its copy
  };

  /// Who should accept for a slot: its own worker, else who does already, else any, in turn.
  worker_ptr wanted(const seat& at) {
    for (const auto& each : joined_) {
      if (each->number() == at.slot) return each;
    }
    if (at.holder || joined_.empty()) return at.holder;
    return joined_[lent_++ % joined_.size()];
  }

  void settle() {
    if (stopping_) return;
    for (const auto& each : seats_) {
      if (each->moving) continue;
      const worker_ptr to = wanted(*each);
      if (to && to != each->holder) move(*each, to);
    }
  }

  void move(seat& at, const worker_ptr& to) {
    const worker_ptr from = std::exchange(at.holder, to);
    const std::uint32_t old = at.loan;
    at.moving = true;
    // One that borrows and does not answer must not keep the listener from another one.
    const std::chrono::milliseconds limit = to->number() == at.slot ? std::chrono::hours(24) : std::chrono::seconds(1);
    at.loan = lend(to, at.socket, limit, [this, &at, from, old](bool lent) {
      at.moving = false;
      if (lent && at.holder) {
        if (from) take_back(from, old);  // only now: somebody accepts there all the time
      } else {
        at.holder = from;
        at.loan = old;
      }
      if (at.holder && std::find(joined_.begin(), joined_.end(), at.holder) == joined_.end()) at.holder = nullptr;
      settle();
    });
  }

  std::vector<std::unique_ptr<seat>> seats_;
  std::vector<worker_ptr> joined_;
  std::size_t lent_ = 0;
  bool stopping_ = false;
};

}  // namespace cohort
