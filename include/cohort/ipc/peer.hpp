// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <variant>

#include "../core/asio.hpp"
#include "../core/descriptor.hpp"
#include "../process/child.hpp"
#include "../process/command.hpp"
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

/// What each side says, and a compile error that names what the protocol lacks.
template <class P>
struct directions {
  static_assert(
      requires { typename P::to_child; },
      "cohort: the protocol says nothing of what the parent sends: give it `using to_child = ...;`");
  static_assert(
      requires { typename P::to_parent; },
      "cohort: the protocol says nothing of what the child sends: give it `using to_parent = ...;`");
  using to_child = std::monostate;
  using to_parent = std::monostate;
};

template <protocol_type P>
struct directions<P> {
  using to_child = typename P::to_child;
  using to_parent = typename P::to_parent;
};

template <class P>
using parent_channel_of = channel<typename directions<P>::to_child, typename directions<P>::to_parent>;

template <class P>
using child_channel_of = channel<typename directions<P>::to_parent, typename directions<P>::to_child>;

inline constexpr const char* channel_variable = "COHORT_CHANNEL_FD";

/// Starts a child that has one end of a channel, and returns the other with it.
asio::awaitable<std::pair<child, descriptor>> spawn_with_channel(command what);

/// Calls `ended` when the child has ended; see child_state::on_end().
void on_end(child& process, std::function<void()> ended);

/// Ends a channel when the child has ended: what is in the socket can still be read.
void end_with(child& process, std::weak_ptr<link> channel);

/// This process's end of the channel that it was started with; see parent().
descriptor take_parent_channel();

}  // namespace detail

/// A child process and the channel to it: all that `channel` has, and the child.
///
/// The two end apart: receive() is empty when the child has closed its side, and everything that it sent before is
/// received first, even when the child is gone long since. The channel ends with the child, also if a process that the
/// child has started holds it open: what was sent until then is received, and then it is over, as if the child had
/// closed its side. Destroying a peer closes the channel and kills a child that still runs (see child).
///
/// Distinct objects: safe. Shared objects: unsafe. On executors of several threads it needs a strand, as a channel
/// does.
template <class Protocol>
class peer : public detail::parent_channel_of<Protocol> {
  using base = detail::parent_channel_of<Protocol>;

 public:
  /// Nobody.
  peer() = default;

  peer(child process, base ends_here) : base(std::move(ends_here)), process_(std::move(process)) {
    detail::end_with(process_, this->shared_link());
  }

  /// The child, for everything that is not here.
  child& process() noexcept { return process_; }

  /// See child::pid and so on. closed() is about the pipes of the child, not about the channel.
  pid_t pid() const noexcept { return process_.pid(); }
  asio::awaitable<exit_status> wait() { return process_.wait(); }
  asio::awaitable<exit_status> closed() { return process_.closed(); }
  bool signal(int number) { return process_.signal(number); }
  bool kill() { return process_.kill(); }
  void detach() noexcept { process_.detach(); }
  asio::awaitable<exit_status> stop(stop_policy policy = {}) { return process_.stop(policy); }

 private:
  child process_;
};

/// Starts a child that has a channel to this process: it calls parent<Protocol>() to get its end.
///
/// The end is the first descriptor number from 3 on that `what` leaves free, and the environment variable
/// COHORT_CHANNEL_FD names it. With `options.transport` of shared memory the child's channel uses it too; the child has
/// nothing to say for that. Otherwise as spawn(command).
template <class Protocol>
asio::awaitable<peer<Protocol>> spawn(command what, channel_options options = {}) {
  const auto executor = co_await asio::this_coro::executor;
  auto started = co_await detail::spawn_with_channel(std::move(what));
  detail::parent_channel_of<Protocol> mine(executor, std::move(started.second), options);
  co_return peer<Protocol>(std::move(started.first), std::move(mine));
}

/// Whether this process was started with a channel that parent() has not taken yet.
bool has_parent() noexcept;

/// In a child started with spawn<Protocol>(): the channel to the parent.
///
/// Takes the descriptor that COHORT_CHANNEL_FD names and removes the variable, so that children of this process do not
/// find it. Call it once, before other threads read the environment. Throws errc::no_parent when the variable is not
/// there or does not name a channel.
template <class Protocol>
detail::child_channel_of<Protocol> parent(asio::any_io_executor executor, const channel_options& options = {}) {
  return {std::move(executor), detail::take_parent_channel(), options};
}

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "peer.ipp"
#endif
