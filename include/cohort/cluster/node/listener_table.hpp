// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/task_group.hpp"
#include "../../ipc/handle.hpp"
#include "../../ipc/node/json.hpp"
#include "../distribution/listener_set.hpp"
#include "../supervision/primary_context.hpp"
#include "../upgrade/protocol.hpp"
#include "listen_query.hpp"
#include "node_listener.hpp"

namespace cohort::node_cluster {

/// The answer to a worker's queryServer.
struct listen_answer {
  int error = 0;  ///< negative: why there is no listener
  std::string trouble;  ///< the same as text
  std::string key;
  json data;
  json sockname;
  /// The socket for the worker; -1 if the primary accepts for it.
  int shared = -1;
  bool datagrams = false;
};

/// The listeners that the workers of a cluster have asked for, by their keys: workers that ask for the same share one.
/// A listener stays open for a while when the last worker has left it, for the worker that comes in its place.
///
/// Distinct objects: safe. Shared objects: unsafe. The dialect owns it, which calls stop() before it goes.
class listener_table {
 public:
  /// Gives an accepted socket of a key's listener to a worker: see handing_over::give.
  using giver = std::function<asio::awaitable<bool>(const worker_ptr& who, const std::string& key, any_handle& socket)>;

  listener_table(primary_context& context, listener_set& set, giver give, std::size_t max_in_flight,
                 std::chrono::milliseconds keep);

  listener_table(const listener_table&) = delete;
  listener_table& operator=(const listener_table&) = delete;

  /// A worker wants to listen: opens the listener, or finds that of its key.
  listen_answer ask(const worker_ptr& who, const listen_query& query);

  /// A worker listens there no more.
  void close(const worker_ptr& who, const std::string& key);

  /// A worker is gone.
  void leave(const worker_ptr& who);

  /// See worker_dialect.
  void inherit(std::vector<upgrade::listener> handed);
  void drop_inherited() { inherited_.clear(); }
  asio::awaitable<void> stop();

 private:
  // No program has so many; a worker that asks for more is broken.
  static constexpr std::size_t max_listeners = 1024;

  struct entry {
    std::shared_ptr<node_listener> to;
    json data;
    json sockname;
    bool datagrams = false;
    bool watched = false;  // abandon() runs
  };

  entry& open(const listen_query& query);
  std::shared_ptr<node_listener> make_listener(opened_server& server, const listen_query& query, queue_owner owner);

  /// Closes a listener that nobody has asked for in a while.
  asio::awaitable<void> abandon(std::string key);

  void on_emptied(const std::string& key);

  static std::string text_for(const std::string& key) { return "node:" + key; }

  primary_context& context_;
  listener_set& set_;
  giver give_;
  std::size_t max_in_flight_;
  std::chrono::milliseconds keep_;
  std::map<std::string, entry> entries_;
  std::map<std::string, upgrade::listener> inherited_;
  task_group tasks_;
};

}  // namespace cohort::node_cluster

#ifndef COHORT_SEPARATE_COMPILATION
#include "listener_table.ipp"
#endif
