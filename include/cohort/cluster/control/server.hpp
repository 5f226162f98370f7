// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <sys/socket.h>
#include <unistd.h>

#include <fmt/format.h>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../core/event.hpp"
#include "../../core/queue.hpp"
#include "../../core/task_group.hpp"
#include "../../ipc/call.hpp"
#include "../../net/acceptor.hpp"
#include "protocol.hpp"
#include "../cluster.hpp"
#include "../../net/unix_listener.hpp"

namespace cohort {

/// The control socket of a cluster: lets control_client look at it and tell it what to do. serve() has one if
/// cluster_options::control_socket names its path.
///
/// The file has the mode 0600 from its beginning on. Root is served, and the user that this process is (effectively),
/// as the kernel tells it (SO_PEERCRED, unix(7)); others are told so and disconnected. So is a client that does not
/// behave, by anything that is not a call, or as a follower by not reading. No client holds up the cluster.
///
/// Must outlive run(), and the cluster must outlive this. Distinct objects: safe. Shared objects: unsafe, also with the
/// cluster.
class control_server {
 public:
  using variables = std::vector<std::pair<std::string, std::string>>;

  static constexpr std::size_t max_clients = 16;      ///< at the same time; further ones are refused
  static constexpr std::size_t max_behind = 256;      ///< events that a follower may be behind
  static constexpr std::size_t max_reloads = 8;       ///< and upgrades that may wait for each other; others are refused
  static constexpr std::uint32_t max_workers = 1024;  ///< that it can be scaled to: a slip should not take the machine

  /// Binds and listens; see control_protocol::endpoint_of. Replaces a file that nobody accepts at, and throws `listen
  /// unix:/run/app.ctl: Address already in use` and its like. `environment` is what cluster::upgrade() is called with.
  control_server(cluster& primary, const std::string& path, variables environment = {});

  control_server(const control_server&) = delete;
  control_server& operator=(const control_server&) = delete;

  /// Tells the followers of an event. cluster::next_event() gives each to one reader: who reads there calls this.
  void note(const cluster_event& event);

  /// Serves clients until stop() is called. Call it once.
  ///
  /// Throws if nothing can be accepted any more. Cancelling disconnects all at once and throws operation_aborted. What
  /// clients have told the cluster to do goes on, but for reloads and upgrades.
  asio::awaitable<void> run();

  /// Ends it: removes the file, tells the followers what they have not heard and lets the answers under way go out, for
  /// a second at most. Call it when all events have been noted.
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
  };
  using session_ptr = std::shared_ptr<session>;

  /// Puts a T into a list for as long as it lives.
  template <class T>
  class registration {
   public:
    registration(std::vector<T>& list, T item) : list_(list), item_(std::move(item)) { list_.push_back(item_); }
    registration(const registration&) = delete;
    ~registration() { std::erase(list_, item_); }

   private:
    std::vector<T>& list_;
    T item_;
  };

  struct follower {
    follower(const asio::any_io_executor& executor, session& s) : of(s), events(executor, max_behind) {}
    session& of;
    queue<cluster_event> events;
  };

  /// While a call is answered. Its end is seen in a later turn, when the answer is queued already.
  struct answering {
    answering(control_server& o, session& s) : owner(o), of(s) { ++of.answering; }
    answering(const answering&) = delete;
    ~answering();
    control_server& owner;
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
    control_server& owner;
    session_ptr of;

    asio::awaitable<cluster_stats> operator()(control_protocol::get_stats);

    asio::awaitable<reload_result> operator()(control_protocol::reload);

    asio::awaitable<upgrade_result> operator()(control_protocol::upgrade);

    asio::awaitable<control_protocol::outcome> operator()(control_protocol::scale wish);

    asio::awaitable<control_protocol::outcome> operator()(control_protocol::stop);

    asio::awaitable<control_protocol::outcome> operator()(control_protocol::kill_worker which);

    asio::awaitable<control_protocol::outcome> operator()(control_protocol::follow, caller<control_protocol::protocol::to_client>& who);
  };

  control_server(cluster& primary, unix_listener opened)
      : primary_(primary),
        file_(std::move(opened.file)),
        acceptor_(primary.get_executor(), std::move(opened.socket)),
        clients_(primary.get_executor()),
        reloads_(primary.get_executor()),
        answered_(primary.get_executor()) {}

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

  static asio::awaitable<void> reload(cluster& primary, std::string why, std::shared_ptr<pending<reload_result>> one);

  static asio::awaitable<void> upgrade(cluster& primary, variables environment,
                                       std::shared_ptr<pending<upgrade_result>> one);

  asio::awaitable<void> accept();

  void admit(descriptor socket);

  /// Does not wait for the client: the kernel has room for these few bytes.
  static asio::awaitable<void> turn_away(session_ptr one, std::string reason);

  asio::awaitable<void> attend(session_ptr one);

  /// The end of the clients that there are.
  asio::awaitable<void> finish();

  asio::awaitable<void> dismiss(session_ptr one);

  cluster& primary_;
  socket_file file_;
  acceptor acceptor_;
  task_group clients_;
  task_group reloads_;
  event answered_;
  std::vector<session_ptr> sessions_;
  std::vector<follower*> followers_;
  variables environment_;
  bool stopped_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "server.ipp"
#endif
