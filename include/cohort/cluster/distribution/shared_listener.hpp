// SPDX-License-Identifier: BSL-1.0
#pragma once

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
#include "../distribution.hpp"

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

  void take_back(const worker_ptr& who, std::uint32_t grant);

  /// Waits for the grants that are under way: what waits in such a listener has perhaps nobody else to accept it.
  asio::awaitable<void> finish_grants();

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

  asio::awaitable<void> stop() override;

 private:
  void give(const worker_ptr& who);

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
                         std::function<descriptor()> open, queue_owner owner = queue_owner::cluster);

  void join(const worker_ptr& who) override;

  void leave(const worker_ptr& who) override;

  /// The listener of a slot that is no more stays, and is granted to others: to close it would reset what waits in it.
  void resize(unsigned slots) override;

  std::vector<int> sockets() const override;

  asio::awaitable<void> stop() override;

 private:
  struct socket_entry {
    socket_entry(descriptor s, std::uint32_t n) : socket(std::move(s)), slot(n) {}
    descriptor socket;
    std::uint32_t slot;
    worker_ptr holder;       // who accepts there, or is about to
    std::uint32_t grant = 0;  // which its copy came with
    bool moving = false;     // until the holder has its copy
  };

  void add(descriptor socket);

  /// Who should accept for a slot: its own worker, else who does already, else any, in turn.
  worker_ptr wanted(const socket_entry& at);

  void settle();

  void move(socket_entry& at, const worker_ptr& to);

  std::function<descriptor()> open_;
  std::vector<std::unique_ptr<socket_entry>> entries_;
  std::vector<worker_ptr> joined_;
  std::size_t turn_ = 0;
  bool stopping_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "shared_listener.ipp"
#endif
