// SPDX-License-Identifier: BSL-1.0
/// Node processes as children and as parents: `spawn<protocol, node_wire>()` and `parent<protocol, node_wire>()`.
#pragma once

#include <concepts>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../process/child.hpp"
#include "../../process/command.hpp"
#include "../peer.hpp"
#include "channel.hpp"

namespace cohort {

/// Says that a channel is to be one of Node's, where cohort's own is the rule.
struct node_wire {};

namespace detail {

inline constexpr const char* node_channel_variable = "NODE_CHANNEL_FD";
inline constexpr const char* node_mode_variable = "NODE_CHANNEL_SERIALIZATION_MODE";
inline constexpr const char* node_id_variable = "NODE_UNIQUE_ID";

/// Starts a child that has one end of a channel, and returns the other with it. What this process has of Node's
/// variables does not reach the child. `unique_id` is for workers of Node's cluster module.
asio::awaitable<std::pair<child, descriptor>> spawn_with_node_channel(command what, node_serialization mode,
                                                                      std::optional<std::string> unique_id = {});

/// Ends a channel when the child has ended: what is in the socket can still be read.
void end_with(child& process, const node_link& channel);

/// What a process that was started with a Node channel finds in its environment.
struct node_parent_end {
  descriptor socket;
  node_serialization mode = node_serialization::json_lines;
  std::string unique_id;  ///< of a worker of Node's cluster module; empty for others
};

/// This process's end of the channel, and removes the variables. Throws as parent().
node_parent_end take_node_parent();

}  // namespace detail

/// A child process and the Node channel to it: all that `node_channel` has, and the child.
///
/// The two end apart, as with `peer`: receive() is empty when the child has disconnected, or has ended, and everything
/// that it sent before is received first. Destroying a node_peer closes the channel and kills a child that still runs.
///
/// Distinct objects: safe. Shared objects: unsafe.
template <protocol_type Protocol>
class node_peer : public node_channel<typename Protocol::to_child, typename Protocol::to_parent> {
  using base = node_channel<typename Protocol::to_child, typename Protocol::to_parent>;

 public:
  /// Nobody.
  node_peer() = default;

  node_peer(child process, base ends_here) : base(std::move(ends_here)), process_(std::move(process)) {
    detail::end_with(process_, this->link());
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

/// Starts a child that has a Node channel to this process: a script (`command("node", "worker.js")`, which finds it in
/// `process.send` and `process.on('message')`), or any program that speaks the wire.
///
/// The end is the first descriptor number from 3 on that `what` leaves free, and NODE_CHANNEL_FD names it, whatever the
/// environment had of that name. Otherwise as spawn(command).
template <protocol_type Protocol, std::same_as<node_wire> Wire>
asio::awaitable<node_peer<Protocol>> spawn(command what, node_options options = {}) {
  const auto executor = co_await asio::this_coro::executor;
  auto started = co_await detail::spawn_with_node_channel(std::move(what), options.serialization);
  node_channel<typename Protocol::to_child, typename Protocol::to_parent> mine(executor, std::move(started.second),
                                                                               options);
  co_return node_peer<Protocol>(std::move(started.first), std::move(mine));
}

/// Whether this process was started with a Node channel that parent() has not taken yet.
bool has_node_parent() noexcept;

/// In a child of Node (`child_process.fork()` with `execPath`, `spawn()` with 'ipc' in `stdio`), or of
/// spawn<Protocol, node_wire>(): the channel to the parent.
///
/// Takes the descriptor that NODE_CHANNEL_FD names and the mode that NODE_CHANNEL_SERIALIZATION_MODE says, and removes
/// these variables and NODE_UNIQUE_ID, so that children of this process do not find them. Call it once, before other
/// threads read the environment. Throws errc::no_parent when there is no variable or it names no channel, and
/// errc::invalid_option for a mode that is neither of the two.
template <protocol_type Protocol, std::same_as<node_wire> Wire>
node_channel<typename Protocol::to_parent, typename Protocol::to_child> parent(asio::any_io_executor executor,
                                                                               node_options options = {}) {
  auto end = detail::take_node_parent();
  options.serialization = end.mode;
  return {std::move(executor), std::move(end.socket), options};
}

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "peer.ipp"
#endif
