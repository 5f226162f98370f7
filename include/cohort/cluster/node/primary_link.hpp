// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>

#include "../../core/asio.hpp"
#include "../../core/event.hpp"
#include "../../core/task_group.hpp"
#include "../../ipc/channel.hpp"
#include "../../ipc/handle.hpp"
#include "../../ipc/node/link.hpp"
#include "../../worker/parent_channel.hpp"
#include "../../worker/protocol.hpp"
#include "../../worker/run_worker.hpp"
#include "run_node_worker.hpp"

namespace cohort::node_cluster {

/// Translates for a worker between worker_protocol, which it speaks with its parent, and the cluster protocol of its
/// Node primary. run_node_worker() owns it.
///
/// Distinct objects: safe. Shared objects: unsafe. It runs on the worker's executor.
class primary_link final : public cohort::detail::parent_connection, public node_primary_line {
 public:
  primary_link(const asio::any_io_executor& executor, node_link wire, const node_worker_options& options);

  parent_channel connect() override;
  void begin(worker& self) override;
  asio::awaitable<int> finish(int status) override;

  bool post(const json& message) override { return wire_.post(message); }
  void leave() override;

 private:
  /// What the primary orders, and what the worker says to it that Node has a word for.
  using orders = std::variant<worker_protocol::listen, worker_protocol::serve, worker_protocol::drain>;
  using words = std::variant<worker_protocol::ready, worker_protocol::draining, worker_protocol::failed,
                             worker_protocol::pong, worker_protocol::ended>;

  asio::awaitable<void> hear_worker();
  asio::awaitable<void> hear_primary();
  asio::awaitable<void> hear_messages();

  void hear(node_message message);

  /// Asks for all listeners.
  asio::awaitable<void> listen();
  asio::awaitable<void> listen_at(std::uint32_t number, const std::string& where);

  /// Takes what the primary has answered: its key and perhaps a socket.
  asio::awaitable<void> adopt(std::uint32_t number, node_message& answer);

  /// Gives a connection to the worker, and tells the primary whether it takes it.
  asio::awaitable<void> serve(node_message given);

  /// Whether the worker has taken a connection.
  asio::awaitable<bool> hand_over(const std::string& key, any_handle& socket);

  /// Waits until the primary has an answer for each connection: it would keep one for ever that gets none.
  asio::awaitable<void> all_answered();
  bool has_room() const;

  /// Tells the primary that nothing more is to come here.
  void close_listeners();
  void say_closed(const std::string& key);

  /// Sends a message and waits for the answer to it; none if the primary goes first.
  asio::awaitable<std::optional<node_message>> ask(json message);

  asio::awaitable<void> ask_and_forget(json message);

  /// Says something that nobody waits for.
  void say(json message);

  /// The fields of a queryServer.
  json query_for(const std::string& where);
  json message_with(const char* name, json value);

  /// Runs a part of this whose failure is the worker's.
  void start(asio::awaitable<void> work);

  struct question {
    explicit question(const asio::any_io_executor& executor) : answered(executor) {}
    event answered;
    std::optional<node_message> answer;
  };

  node_link wire_;
  const node_worker_options& options_;
  channel<orders, words> to_worker_;
  task_group tasks_;
  worker* self_ = nullptr;
  std::map<std::uint64_t, question*> questions_;
  std::map<std::string, std::uint32_t> listeners_;  // by their keys
  std::map<std::string, unsigned> indices_;         // how often each address was asked for
  std::uint64_t next_number_ = 0;
  std::size_t arriving_ = 0;    // connections that the primary has no answer for yet
  event answered_;              // one of them
  bool told_to_leave_ = false;  // by the primary
  bool leaving_ = false;
  bool gone_ = false;  // the primary
};

}  // namespace cohort::node_cluster

#ifndef COHORT_SEPARATE_COMPILATION
#include "primary_link.ipp"
#endif
