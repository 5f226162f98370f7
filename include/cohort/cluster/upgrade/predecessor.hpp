// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>
#include <vector>

#include "../../core/asio.hpp"
#include "../../ipc/peer.hpp"
#include "protocol.hpp"

namespace cohort::upgrade {

/// Whether this process is to take over from another primary.
bool asked_for() noexcept;

/// The successor's end of the channel to its predecessor.
class predecessor {
 public:
  using channel_type = channel<protocol::to_parent, protocol::to_child>;

  /// Call it once, if asked_for(), before other threads read the environment.
  explicit predecessor(const asio::any_io_executor& executor);

  /// What it hands over. Throws errc::peer_closed if it dies before it has handed over everything.
  asio::awaitable<std::vector<listener>> listeners();

  unsigned generation() const noexcept { return generation_; }

  /// How many workers it was scaled to; 0 if it was not.
  unsigned workers() const noexcept { return workers_; }

  /// Tells it to go.
  asio::awaitable<void> dismiss(std::vector<std::string> texts);

 private:
  channel_type channel_;
  unsigned generation_ = 0;
  unsigned workers_ = 0;
};

/// Hands a listener over: copies of its sockets.
asio::awaitable<void> hand_over(peer<protocol>& to, listener what, const std::vector<int>& sockets);

}  // namespace cohort::upgrade

#ifndef COHORT_SEPARATE_COMPILATION
#include "predecessor.ipp"
#endif
