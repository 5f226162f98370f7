// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <sys/socket.h>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/event.hpp"
#include "../../core/queue.hpp"
#include "../../core/task_group.hpp"
#include "../../ipc/call.hpp"
#include "../../net/acceptor.hpp"
#include "../../net/unix_listener.hpp"
#include "../cluster.hpp"
#include "protocol.hpp"
#include "server.hpp"

namespace cohort::detail {

/// The clients of a control_server, which owns this, and what they ask.
///
/// Distinct objects: safe. Shared objects: unsafe, also with the cluster.
class control_sessions {
 public:
  using variables = std::vector<std::pair<std::string, std::string>>;

  control_sessions(cluster& primary, asio::local::stream_protocol::endpoint at, variables environment,
                   std::string group);

  control_sessions(const control_sessions&) = delete;
  control_sessions& operator=(const control_sessions&) = delete;

  /// See control_server.
  void note(const cluster_event& event);
  asio::awaitable<void> run();
  void look();
  void stop();

 private:
  struct session {
    session(const asio::any_io_executor& executor, descriptor socket, const ucred& peer)
        : line(executor, std::move(socket), limits()), who(peer) {}

    static channel_options limits();

    std::string name() const { return fmt::format("asked by user {}, pid {}", who.uid, who.pid); }

    control_protocol::server_channel line;
    ucred who;
    std::size_t answering = 0;
    std::chrono::steady_clock::time_point last_asked = std::chrono::steady_clock::now();
    bool dismissed = false;  // it has to make room for another one
  };
  using session_ptr = std::shared_ptr<session>;

  struct follower {
    follower(const asio::any_io_executor& executor, session& s) : of(s), events(executor, control_server::max_behind) {}
    session& of;
    queue<cluster_event> events;
  };

  /// While a call is answered. Its end is seen in a later turn, when the answer is queued already.
  struct answering {
    answering(control_sessions& o, session& s) : owner(o), of(s) { ++of.answering; }
    answering(const answering&) = delete;
    ~answering();
    control_sessions& owner;
    session& of;
  };

  /// Something that takes its time, and its end.
  template <class Result>
  struct pending {
    explicit pending(const asio::any_io_executor& executor) : over(executor) {}
    event over;
    Result result;
    std::exception_ptr failure;
  };

  /// Answers the calls of one client.
  struct handler {
    control_sessions& owner;
    session_ptr of;
    asio::awaitable<cluster_stats> operator()(control_protocol::get_stats);
    asio::awaitable<reload_result> operator()(control_protocol::reload);
    asio::awaitable<upgrade_result> operator()(control_protocol::upgrade);
    asio::awaitable<control_protocol::outcome> operator()(control_protocol::scale wish);
    asio::awaitable<control_protocol::outcome> operator()(control_protocol::stop);
    asio::awaitable<control_protocol::outcome> operator()(control_protocol::kill_worker which);
    asio::awaitable<control_protocol::outcome> operator()(control_protocol::follow,
                                                          caller<control_protocol::protocol::to_client>& who);
  };

  static void shorten(std::string& text);

  template <class Result>
  std::shared_ptr<pending<Result>> begin() {
    return std::make_shared<pending<Result>>(clients_.get_executor());
  }

  /// What is called at the end of its coroutine.
  template <class Result>
  static std::function<void(std::exception_ptr)> end_of(std::shared_ptr<pending<Result>> one) {
    return [one = std::move(one)](std::exception_ptr failure) {
      one->failure = failure;
      one->over.set();
    };
  }

  void open();

  static asio::awaitable<void> reload(cluster& primary, std::string why, std::shared_ptr<pending<reload_result>> one);

  static asio::awaitable<void> upgrade(cluster& primary, variables environment,
                                       std::shared_ptr<pending<upgrade_result>> one);

  asio::awaitable<void> accept();

  void admit(descriptor socket);

  /// Whether there is room for another client, for whom one may have to go that asks nothing.
  bool make_room();

  /// Does not wait for the client: the kernel has room for these few bytes.
  static asio::awaitable<void> turn_away(session_ptr one, std::string reason);

  asio::awaitable<void> attend(session_ptr one);

  /// The end of the clients that there are.
  asio::awaitable<void> finish();

  asio::awaitable<void> dismiss(session_ptr one);

  cluster& primary_;
  asio::local::stream_protocol::endpoint at_;
  socket_file file_;
  std::shared_ptr<acceptor> acceptor_;
  task_group clients_;
  task_group reloads_;
  event answered_;
  std::vector<session_ptr> sessions_;
  std::vector<follower*> followers_;
  variables environment_;
  const std::string group_;
  bool stopped_ = false;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "sessions.ipp"
#endif
