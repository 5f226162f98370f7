// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <variant>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../core/task_group.hpp"
#include "../../ipc/channel.hpp"
#include "../../ipc/channel_pair.hpp"
#include "../protocol.hpp"
#include "../../messaging/delivery.hpp"
#include "../../messaging/endpoint.hpp"

namespace cohort {

/// A worker's channels to other processes of its cluster, for messages that do not go through the primary: one to each
/// process that this one sends to, and one from each that sends here.
///
/// Distinct objects: safe. Shared objects: unsafe. Cancel `tasks()` and wait for it before this goes.
class direct_channels {
 public:
  using to_primary = channel<worker_protocol::to_parent, worker_protocol::to_child>;

  /// `primary` is who introduces processes to each other, and `here` gets what comes.
  direct_channels(const asio::any_io_executor& executor, to_primary& primary, message_endpoint& here)
      : primary_(primary), here_(here), tasks_(executor) {}

  task_group& tasks() noexcept { return tasks_; }

  /// Takes a letter to the one process that it is for. Cancelling throws operation_aborted, and takes it back.
  asio::awaitable<receipt> send(routed_message what) {
    const auto line = line_to({what.to, what.number, what.name});
    try {
      auto result = co_await line->call<receipt>(what);
      co_return result;
    } catch (const std::system_error& error) {
      if (error.code() == asio::error::operation_aborted) throw;
    }
    co_return detail::not_delivered(nobody_at(what), undelivered::gone);
  }

  /// Takes this process's end of a line from another one.
  void accept_offer(descriptor end) {
    auto line = std::make_shared<incoming>(tasks_.get_executor(), std::move(end));
    in_.emplace(line.get(), line);
    tasks_.start(listen_to(line), [this, line](std::exception_ptr) { in_.erase(line.get()); });
    tasks_.start(answer(line), [](std::exception_ptr) {});
  }

  /// Tells those who send here that they should not any more.
  void decline() {
    for (const auto& [key, line] : in_) {
      try {
        line->post(worker_protocol::draining());
      } catch (const std::system_error&) {
        // It is gone itself.
      }
    }
  }

 private:
  using address = std::tuple<std::uint8_t, std::int64_t, std::string>;  // a recipient's
  using outgoing = channel<worker_protocol::to_child, worker_protocol::to_parent>;
  using incoming = channel<worker_protocol::to_parent, worker_protocol::to_child>;

  std::shared_ptr<outgoing> line_to(address to) {
    auto& known = out_[to];
    if (!known) {
      auto ends = make_channel_pair();
      known = std::make_shared<outgoing>(tasks_.get_executor(), std::move(ends.first));
      tasks_.start(watch(to, known), [](std::exception_ptr) {});
      tasks_.start(offer(to, std::move(ends.second)), [](std::exception_ptr) {});
    }
    return known;
  }

  /// Gives the other end away. If nobody takes it, it is closed, and the line ends.
  asio::awaitable<void> offer(address to, descriptor end) {
    worker_protocol::connect_request request;
    std::tie(request.to, request.number, request.name) = to;
    co_await primary_.send_handle(request, std::move(end));
  }

  /// Forgets a line that has ended, or whose other end wants no more. Calls that are under way hold it.
  asio::awaitable<void> watch(address to, std::shared_ptr<outgoing> line) {
    try {
      while (const auto word = co_await line->receive()) {
        if (std::holds_alternative<worker_protocol::draining>(*word)) forget(to, line);
      }
    } catch (const std::system_error&) {
      // The calls say what has become of them.
    }
    forget(to, line);
  }

  void forget(const address& to, const std::shared_ptr<outgoing>& line) {
    const auto at = out_.find(to);
    if (at != out_.end() && at->second == line) out_.erase(at);
  }

  /// Reads for as long as there is somebody at the other end.
  static asio::awaitable<void> listen_to(std::shared_ptr<incoming> line) {
    while (const auto word = co_await line->receive()) continue;
  }

  asio::awaitable<void> answer(std::shared_ptr<incoming> line) {
    co_await line->serve_calls([this](routed_message what) { return here_.receive(std::move(what)); });
  }

  static member nobody_at(const routed_message& what) {
    member who;
    const auto to = detail::address_of(what);
    if (to.what() == recipient::kind::slot) who.slot = static_cast<std::uint32_t>(what.number);
    if (to.what() == recipient::kind::process) who.pid = static_cast<std::int32_t>(what.number);
    who.agent = what.name;
    return who;
  }

  to_primary& primary_;
  message_endpoint& here_;
  task_group tasks_;
  std::map<address, std::shared_ptr<outgoing>> out_;
  std::map<incoming*, std::shared_ptr<incoming>> in_;
};

}  // namespace cohort
