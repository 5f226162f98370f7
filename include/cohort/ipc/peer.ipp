// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "peer.hpp"

#include "../core/config.hpp"

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <sys/socket.h>

#include "../core/error.hpp"
#include "handle.hpp"

namespace cohort {
namespace detail {

COHORT_INLINE asio::awaitable<std::pair<child, descriptor>> spawn_with_channel(command what) {
  auto ends = make_channel_pair();
  int number = 3;
  while (what.has_fd(number)) ++number;
  what.env(channel_variable, std::to_string(number));
  what.fd(number, stdio::borrow(ends.second.get()));
  child process = co_await spawn(std::move(what));
  ends.second.reset();  // the child has its own: when it ends, the channel does
  co_return std::pair<child, descriptor>(std::move(process), std::move(ends.first));
}

/// The peer's way to the child's state.
struct child_access {
  static const std::shared_ptr<child_state>& state(child& of) noexcept { return of.state_; }
};

COHORT_INLINE void on_end(child& process, std::function<void()> ended) {
  const auto& state = child_access::state(process);
  if (state) child_state::on_end(state, std::move(ended));
}

COHORT_INLINE void end_with(child& process, std::weak_ptr<link> channel) {
  if (channel.expired()) return;
  on_end(process, [channel] {
    const auto open = channel.lock();
    // The kernel gives out what has arrived before, and then the end, whoever else has the other end of the socket.
    if (open && open->is_open()) ::shutdown(open->native_handle(), SHUT_RDWR);
  });
}

COHORT_INLINE descriptor take_parent_channel() {
  const char* value = std::getenv(channel_variable);
  if (value == nullptr) throw_error(std::string("parent: ") + channel_variable + " is not set", errc::no_parent);
  int fd = -1;
  const char* const end = value + std::strlen(value);
  const auto parsed = std::from_chars(value, end, fd);
  if (parsed.ec != std::errc() || parsed.ptr != end || fd < 0 || kind_of(fd) != handle_kind::local_socket) {
    throw_error(std::string("parent: ") + channel_variable + "=" + value + " is no channel", errc::no_parent);
  }
  ::unsetenv(channel_variable);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return descriptor(fd);
}

}  // namespace detail

COHORT_INLINE bool has_parent() noexcept { return std::getenv(detail::channel_variable) != nullptr; }

}  // namespace cohort
