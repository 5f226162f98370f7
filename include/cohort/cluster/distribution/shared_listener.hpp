// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "distributor.hpp"
#include "grants.hpp"

namespace cohort {

/// distribution::shared: all workers accept on the same listener.
class shared_distributor final : public distributor {
 public:
  shared_distributor(const asio::any_io_executor& executor, descriptor socket, std::uint32_t number,
                     queue_owner owner = queue_owner::cluster);

  void join(const worker_ptr& who) override { give(who); }
  void leave(const worker_ptr& who) override { joined_.erase(who); }
  asio::awaitable<void> stop() override;
  void cancel() override { grants_.tasks().cancel(); }
  std::vector<int> sockets() const override;
  bool workers_accept() const noexcept override { return owner_ == queue_owner::cluster; }

 private:
  void give(const worker_ptr& who);

  listener_grants grants_;
  descriptor socket_;
  std::map<worker_ptr, std::uint32_t> joined_;  // and the grant that each has
  bool stopping_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "shared_listener.ipp"
#endif
