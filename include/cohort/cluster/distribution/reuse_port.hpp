// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "distributor.hpp"
#include "grants.hpp"

namespace cohort {

/// distribution::reuse_port. The sockets are the primary's for as long as it listens: what waits in the queue of a slot
/// whose worker has died is not lost, and is served by the worker that the listener is granted to.
class reuse_port_distributor final : public distributor {
 public:
  /// `sockets`: one a slot, the first for slot 1; `open`, if there is one, makes one more.
  reuse_port_distributor(const asio::any_io_executor& executor, std::vector<descriptor> sockets, std::uint32_t number,
                         std::function<descriptor()> open, queue_owner owner = queue_owner::cluster);

  void join(const worker_ptr& who) override;
  void leave(const worker_ptr& who) override;
  /// The listener of a slot that is no more stays, and is granted to others: to close it would reset what waits in it.
  void resize(unsigned slots) override;
  asio::awaitable<void> stop() override;
  void cancel() override { grants_.tasks().cancel(); }
  std::vector<int> sockets() const override;
  bool workers_accept() const noexcept override { return owner_ == queue_owner::cluster; }

 private:
  struct socket_entry {
    socket_entry(descriptor socket_, std::uint32_t slot_) : socket(std::move(socket_)), slot(slot_) {}
    descriptor socket;
    std::uint32_t slot;
    worker_ptr holder;        // who accepts there, or is about to
    std::uint32_t grant = 0;  // which its copy came with
    bool moving = false;      // until the holder has its copy
  };

  void add(descriptor socket);

  /// Who should accept for a slot: its own worker, else who does already, else any, in turn.
  worker_ptr wanted(const socket_entry& at);

  /// Grants each listener to the worker that should have it.
  void settle();

  void move(socket_entry& at, const worker_ptr& to);

  listener_grants grants_;
  std::function<descriptor()> open_;
  std::vector<std::unique_ptr<socket_entry>> entries_;
  std::vector<worker_ptr> joined_;
  std::size_t turn_ = 0;
  bool stopping_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "reuse_port.ipp"
#endif
