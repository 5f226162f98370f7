// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include <fcntl.h>

#include <fmt/format.h>

#include "../core/asio.hpp"
#include "../core/descriptor.hpp"
#include "../core/error.hpp"
#include "../process/spawn.hpp"
#include "channel.hpp"
#include "channel_pair.hpp"

namespace cohort {

/// What parent and child say to each other, in a header that both programs include:
///
///     struct protocol {
///       using to_child = std::variant<job, stop>;  // or a single type
///       using to_parent = result;
///     };
template <class P>
concept protocol_type = requires {
  typename P::to_child;
  typename P::to_parent;
};

namespace detail {
inline constexpr const char* channel_variable = "COHORT_CHANNEL_FD";
}

/// A child process and the channel to it: all that `channel` has, and the child.
///
/// The two end apart: receive() is empty when the child has closed its side, and everything that it sent before is
/// received first, even when the child is gone long since. Destroying a peer closes the channel and kills a child that
/// still runs (see child).
///
/// Distinct objects: safe. Shared objects: unsafe.
template <protocol_type Protocol>
class peer : public channel<typename Protocol::to_child, typename Protocol::to_parent> {
  using base = channel<typename Protocol::to_child, typename Protocol::to_parent>;

 public:
  /// Nobody.
  peer() = default;

  peer(child process, base ends_here) : base(std::move(ends_here)), process_(std::move(process)) {}

  /// The child, for everything that is not here.
  child& process() noexcept { return process_; }

  /// See child::pid, child::wait, child::signal and child::stop.
  pid_t pid() const noexcept { return process_.pid(); }
  asio::awaitable<exit_status> wait() { return process_.wait(); }
  bool signal(int number) { return process_.signal(number); }
  asio::awaitable<exit_status> stop(stop_policy policy = {}) { return process_.stop(policy); }

 private:
  child process_;
};

/// Starts a child that has a channel to this process: it calls parent<Protocol>() to get its end.
///
/// The end is the first descriptor number from 3 on that `what` leaves free, and the environment variable
/// COHORT_CHANNEL_FD names it. Otherwise as spawn(command).
template <protocol_type Protocol>
asio::awaitable<peer<Protocol>> spawn(command what, channel_options options = {}) {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  int number = 3;
  while (what.has_fd(number)) ++number;
  what.env(detail::channel_variable, std::to_string(number));
  what.fd(number, stdio::borrow(ends.second.get()));
  child process = co_await spawn(std::move(what));
  ends.second.reset();  // the child has its own: when it ends, the channel does
  channel<typename Protocol::to_child, typename Protocol::to_parent> mine(executor, std::move(ends.first), options);
  co_return peer<Protocol>(std::move(process), std::move(mine));
}

/// Whether this process was started with a channel that parent() has not taken yet.
inline bool has_parent() noexcept { return std::getenv(detail::channel_variable) != nullptr; }

/// In a child started with spawn<Protocol>(): the channel to the parent.
///
/// Takes the descriptor that COHORT_CHANNEL_FD names and removes the variable, so that children of this process do not
/// find it. Call it once, before other threads read the environment. Throws errc::no_parent when the variable is not
/// there or does not name a channel.
template <protocol_type Protocol>
channel<typename Protocol::to_parent, typename Protocol::to_child> parent(asio::any_io_executor executor,
                                                                          const channel_options& options = {}) {
  const char* value = std::getenv(detail::channel_variable);
  if (value == nullptr) throw_error(fmt::format("parent: {} is not set", detail::channel_variable), errc::no_parent);
  int fd = -1;
  const char* const end = value + std::strlen(value);
  const auto parsed = std::from_chars(value, end, fd);
  if (parsed.ec != std::errc() || parsed.ptr != end || fd < 0 || kind_of(fd) != handle_kind::local_socket) {
    throw_error(fmt::format("parent: {}={} is no channel", detail::channel_variable, value), errc::no_parent);
  }
  ::unsetenv(detail::channel_variable);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return {std::move(executor), descriptor(fd), options};
}

}  // namespace cohort
