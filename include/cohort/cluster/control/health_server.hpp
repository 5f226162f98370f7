// SPDX-License-Identifier: BSL-1.0
/// What load balancers and Prometheus ask a cluster over HTTP.
#pragma once

#include <chrono>
#include <cstddef>
#include <list>
#include <memory>
#include <string>
#include <string_view>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/task_group.hpp"
#include "../../net/acceptor.hpp"

namespace cohort {

class cluster;

/// Answers HTTP requests about a cluster, in the primary and on a port of its own, which is not for the world:
///
/// - `/metrics`: to_prometheus() of its figures;
/// - `/healthz`: 200 while the primary's loop turns;
/// - `/readyz`: 200 while clients should come here (cluster_stats::in_service), else 503.
///
/// Each connection gets one answer, to GET or HEAD. No client holds up the cluster or another one: a request has a
/// bound of bytes and of time, and of too many clients the one that came first makes room.
///
/// serve() has one if cluster_options::health_address says where. Must outlive run(), and the cluster must outlive
/// this. Distinct objects: safe. Shared objects: unsafe, also with the cluster.
class health_server {
 public:
  static constexpr std::size_t max_clients = 16;               ///< at the same time
  static constexpr std::size_t max_request = 8192;             ///< bytes, of its head
  static constexpr std::chrono::milliseconds max_time{5'000};  ///< of one connection

  /// Binds and listens at `127.0.0.1:9100` and its like, see expand_endpoint(); at the first address of a name. Throws
  /// `listen 127.0.0.1:9100: Address already in use` and its like.
  health_server(cluster& primary, const std::string& address);

  health_server(const health_server&) = delete;
  health_server& operator=(const health_server&) = delete;

  /// With the port that was chosen.
  const asio::ip::tcp::endpoint& endpoint() const noexcept { return at_; }

  /// Serves until stop() is called. Call it once. Throws if nothing can be accepted any more. Cancelling disconnects
  /// all and throws operation_aborted.
  asio::awaitable<void> run();

  /// Accepts no more, and disconnects who has no answer yet.
  void stop();

 private:
  void admit(descriptor accepted);
  asio::awaitable<void> serve(asio::ip::tcp::socket socket);
  asio::awaitable<void> answer(asio::ip::tcp::socket& socket);

  /// The answer to a request, of which this is all up to the empty line.
  std::string answer_to(std::string_view head) const;

  cluster& primary_;
  asio::ip::tcp::endpoint at_;
  acceptor acceptor_;
  task_group clients_;
  std::list<std::weak_ptr<asio::cancellation_signal>> order_;  // of the clients, the first one first
  bool stopped_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "health_server.ipp"
#endif
