// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "../../core/asio.hpp"
#include "../../core/event.hpp"
#include "../../core/task_group.hpp"
#include "../../ipc/channel.hpp"
#include "../../ipc/handle.hpp"
#include "../../ipc/node/link.hpp"
#include "../../worker/protocol.hpp"
#include "../supervision/primary_context.hpp"
#include "../supervision/worker_process.hpp"
#include "listener_table.hpp"
#include "workers.hpp"

namespace cohort::node_cluster {

/// One Node worker, from its start until its process has ended: translates between Node's cluster protocol, which the
/// process speaks, and worker_protocol, which the primary expects of a worker. The dialect owns it.
///
/// Distinct objects: safe. Shared objects: unsafe.
class worker_session : public std::enable_shared_from_this<worker_session> {
 public:
  /// What the primary orders; the rest of worker_protocol is nothing that a Node program knows.
  using orders = std::variant<worker_protocol::drain, worker_protocol::ping>;
  using words = std::variant<worker_protocol::ready, worker_protocol::draining, worker_protocol::failed,
                             worker_protocol::pong, worker_protocol::ended>;
  using primary_channel = channel<words, orders>;

  worker_session(primary_context& context, listener_table& listeners, const node_workers_options& options,
                 worker_ptr who, node_link wire, primary_channel to_primary);

  /// Runs until the process has ended, or a while after it has closed its channel.
  asio::awaitable<void> run();

  /// Gives the worker an accepted socket of a listener. True: the worker has said that it serves it, and the copy here
  /// is closed. False: it refuses, and has closed its copy. If this throws (errc::peer_closed when the worker dies
  /// first, handle_lost when its descriptor table is full), nobody else has the socket.
  asio::awaitable<bool> give(std::string key, any_handle& socket);

 private:
  // A newconn that the worker has not answered.
  struct offer {
    explicit offer(const asio::any_io_executor& executor) : answered(executor) {}
    event answered;
    bool accepted = false;
  };

  asio::awaitable<void> listen_to();
  asio::awaitable<void> take_messages();

  /// Runs a part that hears the worker: one that cannot go on with it ends the process.
  asio::awaitable<void> or_end(asio::awaitable<void> (*part)(worker_session&));

  asio::awaitable<void> take_orders();

  void hear(const json& message);
  void hear_answer(std::uint64_t number, const json& message);

  /// Answers a queryServer.
  asio::awaitable<void> answer_query(json query);
  listen_answer find(const json& query);
  asio::awaitable<void> send_answer(const json& query, const listen_answer& what);

  /// Answers a ping of the primary when the worker's loop has read what was sent to it.
  asio::awaitable<void> answer_ping(std::uint64_t number);
  asio::awaitable<void> wait_until_read();

  asio::awaitable<void> ask_to_leave();
  void say_ready();
  void say_failed(std::string what);
  void say_figures();

  /// Ends a process that has closed its channel and stays, in its own time.
  asio::awaitable<void> wait_for_exit();

  /// Runs what answers the worker. Throws ENOBUFS for a worker that asks on and on and reads nothing.
  void answer(asio::awaitable<void> work);
  asio::awaitable<void> count_answer(asio::awaitable<void> work);

  /// Sends a message of the cluster protocol.
  asio::awaitable<void> send(json message);

  /// Runs a part of this whose failure is the channel's, which listen_to() is told too.
  void start(asio::awaitable<void> work);

  json message_with(const char* name, json value);

  primary_context& context_;
  listener_table& listeners_;
  const node_workers_options& options_;
  const worker_ptr who_;
  node_link wire_;
  primary_channel to_primary_;
  task_group tasks_;
  std::map<std::uint64_t, std::shared_ptr<offer>> offers_;
  std::uint64_t next_number_ = 0;
  std::size_t unsent_ = 0;   // answers
  std::uint64_t taken_ = 0;  // connections
  std::uint64_t last_ping_ = 0;
  bool ready_ = false;
  bool leaving_ = false;  // by the primary's order, or its own wish
  bool ended_ = false;    // its channel
};

}  // namespace cohort::node_cluster

#ifndef COHORT_SEPARATE_COMPILATION
#include "worker_session.ipp"
#endif
