// SPDX-License-Identifier: BSL-1.0
/// Replacing the primary itself, while its listeners stay open.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../core/system.hpp"
#include "../../core/timeout.hpp"
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
  explicit predecessor(const asio::any_io_executor& executor) : channel_(parent<protocol>(executor)) {
    ::unsetenv(variable);
  }

  /// What it hands over. Throws errc::peer_closed if it dies before it has handed over everything.
  asio::awaitable<std::vector<listener>> listeners() {
    std::vector<listener> result;
    for (;;) {
      auto message = co_await channel_.receive();
      if (!message) throw_error("upgrade: the old primary is gone", errc::peer_closed);
      if (const auto* last = std::get_if<begin>(&*message)) {
        generation_ = last->generation;
        workers_ = last->workers;
        co_return result;
      }
      auto& next = std::get<listener>(*message);
      const bool more = !result.empty() && result.back().text == next.text && result.back().address == next.address;
      if (!more) {
        result.push_back(std::move(next));
      } else {
        for (auto& each : next.sockets) result.back().sockets.push_back(std::move(each));
      }
    }
  }

  unsigned generation() const noexcept { return generation_; }

  /// How many workers it was scaled to; 0 if it was not.
  unsigned workers() const noexcept { return workers_; }

  /// Tells it to go.
  asio::awaitable<void> dismiss(std::vector<std::string> texts) {
    serving word;
    word.texts = std::move(texts);
    try {
      co_await channel_.send(word);
      co_await with_timeout(channel_.disconnect(), std::chrono::seconds(1));
    } catch (const std::system_error& error) {
      if (error.code() == asio::error::operation_aborted) throw;
      // It is gone, and what it had is left to us alone.
    }
    channel_.close();
  }

 private:
  channel_type channel_;
  unsigned generation_ = 0;
  unsigned workers_ = 0;
};

/// Hands a listener over: copies of its sockets.
inline asio::awaitable<void> hand_over(peer<protocol>& to, listener what, const std::vector<int>& sockets) {
  constexpr std::size_t at_a_time = 128;  // one message carries 253 descriptors at most (SCM_MAX_FD, unix(7))
  for (std::size_t begin = 0; begin < sockets.size(); begin += at_a_time) {
    listener part;
    part.text = what.text;
    part.address = what.address;
    part.file = what.file;
    part.inherited = what.inherited;
    for (std::size_t i = begin; i < std::min(begin + at_a_time, sockets.size()); ++i) {
      descriptor copy(::fcntl(sockets[i], F_DUPFD_CLOEXEC, 3));
      if (!copy) throw_error(fmt::format("upgrade: copy of {}", what.address), errno);
      part.sockets.emplace_back(std::move(copy));
    }
    co_await to.send(part);
  }
}

}  // namespace upgrade
}  // namespace cohort
