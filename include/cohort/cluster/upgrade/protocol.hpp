// SPDX-License-Identifier: BSL-1.0
/// Replacing the primary itself, while its listeners stay open.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <variant>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../ipc/handle.hpp"
#include "../../ipc/peer.hpp"

namespace cohort {

/// What came of an upgrade.
struct upgrade_result {
  pid_t pid = 0;       ///< of the new primary
  std::string reason;  ///< why the old one goes on; empty if it does not

  bool success() const noexcept { return reason.empty(); }
};

/// What a primary and its successor say to each other.
namespace upgrade {

/// A listener, or a part of one that has very many sockets.
struct listener {
  std::string text;     ///< as the options name it
  std::string address;  ///< with the port that was chosen
  std::string file;     ///< of a unix socket
  bool inherited = false;
  std::vector<handle<descriptor>> sockets;
};

/// These were all of them: serve.
struct begin {
  std::uint32_t generation = 0;  ///< of the old one's workers
  std::uint32_t workers = 0;     ///< how many it was scaled to; 0 if it was not
};

/// All of the successor's workers serve: the old one may go. What stands here is the successor's from now on, the rest
/// it has no use for.
struct serving {
  std::vector<std::string> texts;
};

struct protocol {
  using to_child = std::variant<listener, begin>;
  using to_parent = serving;
};

inline constexpr const char* variable = "COHORT_UPGRADE";

/// Whether this process is to take over from another primary.
inline bool asked_for() noexcept { return std::getenv(variable) != nullptr && has_parent(); }

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

}  // namespace upgrade
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "protocol.ipp"
#endif
