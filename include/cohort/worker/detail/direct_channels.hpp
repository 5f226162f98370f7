// SPDX-License-Identifier: BSL-1.0
/// A worker's channels to other processes of its cluster, for messages that do not go through the primary.
///
/// The worker's parent_link owns them. They run on the worker's executor.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../core/task_group.hpp"
#include "../../ipc/channel.hpp"
#include "../../messaging/delivery.hpp"
#include "../../messaging/endpoint.hpp"
#include "../parent_channel.hpp"
#include "../protocol.hpp"

namespace cohort::detail {

/// One channel to each process that this one sends to, and one from each that sends here.
///
/// Distinct objects: safe. Shared objects: unsafe. Cancel `tasks()` and wait for it before this goes.
class direct_channels {
 public:
  /// `primary` gives the other end of a new channel to the process that it is for; `here` gets what comes.
  direct_channels(const asio::any_io_executor& executor, parent_channel& primary, message_endpoint& here)
      : primary_(primary), here_(here), tasks_(executor) {}

  task_group& tasks() noexcept { return tasks_; }

  /// Sends a message to the one process that it is for. Cancelling throws operation_aborted, and takes it back.
  asio::awaitable<receipt> send(routed_message what);

  /// Takes this process's end of a channel that another process has asked for, of which the primary says who it is. The
  /// other process may be dishonest: an end that is no local socket, or that no channel can be made of, is closed, and
  /// a process has one such channel, the last one.
  void accept_offer(descriptor end, const member& from);

  /// Tells the processes that send here to send by way of the primary from now on.
  void decline();

 private:
  using address = std::tuple<std::uint8_t, std::int64_t, std::string>;  // a recipient's
  using outgoing = channel<worker_protocol::to_child, worker_protocol::to_parent>;
  using incoming = channel<worker_protocol::to_parent, worker_protocol::to_child>;

  std::shared_ptr<outgoing> line_to(address to);

  /// Gives the other end away. If no process takes it, it is closed, and the channel ends.
  asio::awaitable<void> offer(address to, descriptor end);

  /// Forgets a channel that has ended, or whose other end wants no more. Calls that are under way keep it.
  asio::awaitable<void> watch(address to, std::shared_ptr<outgoing> line);

  void forget(const address& to, const std::shared_ptr<outgoing>& line);

  /// Reads until the other end is closed.
  static asio::awaitable<void> listen_to(std::shared_ptr<incoming> line);

  asio::awaitable<void> answer(std::shared_ptr<incoming> line, member from);

  asio::awaitable<receipt> take(routed_message what, const member& from);

  static member nobody_at(const routed_message& what);

  parent_channel& primary_;
  message_endpoint& here_;
  task_group tasks_;
  std::map<address, std::shared_ptr<outgoing>> out_;
  std::map<std::int32_t, std::shared_ptr<incoming>> in_;  // by the sender's pid
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "direct_channels.ipp"
#endif
