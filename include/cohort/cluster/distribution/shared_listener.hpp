// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../core/task_group.hpp"
#include "../../core/timeout.hpp"
#include "../../worker/protocol.hpp"
#include "../../net/acceptor.hpp"
#include "../distribution.hpp"
#include "../supervision/worker_process.hpp"

namespace cohort {

/// Gives listeners to workers and takes them back; what distribution::shared and distribution::reuse_port have in
/// common.
class granting_distributor : public distributor {
 public:
  granting_distributor(const asio::any_io_executor& executor, std::uint32_t number, queue_owner owner)
      : distributor(owner), tasks_(executor), number_(number) {}

  void cancel() override { tasks_.cancel(); }

  bool workers_accept() const noexcept override { return owner_ == queue_owner::cluster; }

 protected:
  /// Gives a worker a copy of a listener; `done(bool)` says whether it has it. Returns the number of the grant.
  template <class Done>
  std::uint32_t grant_to(const worker_ptr& who, const descriptor& socket, std::chrono::milliseconds limit, Done done) {
    tasks_.start(send_grant(who, socket, ++last_grant_, limit, std::move(done)), [](std::exception_ptr) {});
    return last_grant_;
  }

  void take_back(const worker_ptr& who, std::uint32_t grant) {
    worker_protocol::unlisten message;
    message.listener = number_;
    message.grant = grant;
    try {
      who->peer.post(message);
    } catch (const std::system_error&) {
      // It is gone, and its copy with it.
    }
  }

  /// Waits for the grants that are under way: what waits in such a listener has perhaps nobody else to accept it.
  asio::awaitable<void> finish_grants() {
    try {
      co_await with_timeout(tasks_.wait_empty(), std::chrono::seconds(1));
    } catch (const std::system_error&) {
      tasks_.cancel();
    }
    co_await tasks_.wait_empty();
  }

  task_group tasks_;

 private:
  template <class Done>
  asio::awaitable<void> send_grant(worker_ptr who, const descriptor& socket, std::uint32_t grant,
                                std::chrono::milliseconds limit, Done done) {
    worker_protocol::listen message;
    message.listener = number_;
    message.grant = grant;
    bool granted = false, lost = false;
    try {
      co_await with_timeout(who->peer.send_handle(message, socket), limit);
      granted = true;
    } catch (const std::system_error& error) {
      if (error.code() == asio::error::operation_aborted) throw;
      lost = error.code() == errc::handle_lost || error.code() == errc::unknown_message;
    }
    if (!granted) {
      take_back(who, grant);  // if the limit has passed, its answer may cross with this
      asio::steady_timer pause(tasks_.get_executor(), std::chrono::milliseconds(lost ? 50 : 1));
      co_await pause.async_wait(asio::use_awaitable);
    }
    done(granted);
  }

  std::uint32_t number_;
  std::uint32_t last_grant_ = 0;
};

/// distribution::shared.
class shared_distributor final : public granting_distributor {
 public:
  shared_distributor(const asio::any_io_executor& executor, descriptor socket, std::uint32_t number,
                     queue_owner owner = queue_owner::cluster)
      : granting_distributor(executor, number, owner), socket_(std::move(socket)) {}

  void join(const worker_ptr& who) override { give(who); }
  void leave(const worker_ptr& who) override { joined_.erase(who); }

  std::vector<int> sockets() const override { return std::vector<int>(socket_ ? 1 : 0, socket_.get()); }

  asio::awaitable<void> stop() override {
    // Closed here first, so that the last worker that empties the queue closes the listener with it.
    stopping_ = true;
    if (owner_ == queue_owner::cluster) {
      stop_handshakes(socket_.get());
      tasks_.start(last_call(), [](std::exception_ptr) {});
    }
    co_await finish_grants();
    if (owner_ == queue_owner::others) {
      for (const auto& [who, grant] : joined_) take_back(who, grant);
    }
    socket_.reset();
  }

 private:
  void give(const worker_ptr& who) {
    if (stopping_) return;
    joined_[who] = grant_to(who, socket_, std::chrono::hours(24), [this, who](bool granted) {
      // Not for want of a descriptor alone should a worker stay idle.
      if (granted || stopping_ || joined_.erase(who) == 0) return;
      give(who);
    });
  }

  descriptor socket_;
  std::map<worker_ptr, std::uint32_t> joined_;  // and the grant that each has
  bool stopping_ = false;
};

/// distribution::reuse_port. The sockets are the primary's for as long as it listens: what waits in the queue of a slot
/// whose worker has died is not lost, and is served by whom the listener is granted to.
class reuse_port_distributor final : public granting_distributor {
 public:
  /// `sockets`: one a slot, the first for slot 1; `open`, if there is one, makes one more.
  reuse_port_distributor(const asio::any_io_executor& executor, std::vector<descriptor> sockets, std::uint32_t number,
                         std::function<descriptor()> open, queue_owner owner = queue_owner::cluster)
      : granting_distributor(executor, number, owner), open_(std::move(open)) {
    for (auto& socket : sockets) add(std::move(socket));
  }

  void join(const worker_ptr& who) override {
    joined_.push_back(who);
    settle();
  }

  void leave(const worker_ptr& who) override {
    std::erase(joined_, who);
    for (const auto& each : entries_) {
      if (each->holder == who) each->holder = nullptr;
    }
    settle();
  }

  /// The listener of a slot that is no more stays, and is granted to others: to close it would reset what waits in it.
  void resize(unsigned slots) override {
    if (stopping_) return;
    std::vector<descriptor> sockets;
    while (open_ && entries_.size() + sockets.size() < slots) sockets.push_back(open_());
    for (auto& socket : sockets) add(std::move(socket));
    settle();
  }

  std::vector<int> sockets() const override {
    std::vector<int> result;
    for (const auto& each : entries_) result.push_back(each->socket.get());
    return result;
  }

  asio::awaitable<void> stop() override {
    stopping_ = true;
    if (owner_ == queue_owner::cluster) {
      for (const auto& each : entries_) stop_handshakes(each->socket.get());
      tasks_.start(last_call(), [](std::exception_ptr) {});
    }
    co_await finish_grants();
    if (owner_ == queue_owner::others) {
      for (const auto& each : entries_) {
        if (each->holder) take_back(each->holder, each->grant);
      }
    }
    entries_.clear();
  }

 private:
  struct socket_entry {
    socket_entry(descriptor s, std::uint32_t n) : socket(std::move(s)), slot(n) {}
    descriptor socket;
    std::uint32_t slot;
    worker_ptr holder;       // who accepts there, or is about to
    std::uint32_t grant = 0;  // which its copy came with
    bool moving = false;     // until the holder has its copy
  };

  void add(descriptor socket) {
    const auto slot = static_cast<std::uint32_t>(entries_.size() + 1);
    entries_.push_back(std::make_unique<socket_entry>(std::move(socket), slot));
  }

  /// Who should accept for a slot: its own worker, else who does already, else any, in turn.
  worker_ptr wanted(const socket_entry& at) {
    for (const auto& each : joined_) {
      if (each->number() == at.slot) return each;
    }
    if (at.holder || joined_.empty()) return at.holder;
    return joined_[turn_++ % joined_.size()];
  }

  void settle() {
    if (stopping_) return;
    for (const auto& each : entries_) {
      if (each->moving) continue;
      const worker_ptr to = wanted(*each);
      if (to && to != each->holder) move(*each, to);
    }
  }

  void move(socket_entry& at, const worker_ptr& to) {
    const worker_ptr from = std::exchange(at.holder, to);
    const std::uint32_t old = at.grant;
    at.moving = true;
    // One that borrows and does not answer must not keep the listener from another one.
    const std::chrono::milliseconds limit = to->number() == at.slot ? std::chrono::hours(24) : std::chrono::seconds(1);
    at.grant = grant_to(to, at.socket, limit, [this, &at, from, old](bool granted) {
      at.moving = false;
      if (granted && at.holder) {
        if (from) take_back(from, old);  // only now: somebody accepts there all the time
      } else {
        at.holder = from;
        at.grant = old;
      }
      if (at.holder && std::find(joined_.begin(), joined_.end(), at.holder) == joined_.end()) at.holder = nullptr;
      settle();
    });
  }

  std::function<descriptor()> open_;
  std::vector<std::unique_ptr<socket_entry>> entries_;
  std::vector<worker_ptr> joined_;
  std::size_t turn_ = 0;
  bool stopping_ = false;
};

}  // namespace cohort
