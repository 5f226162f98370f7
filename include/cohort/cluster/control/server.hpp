// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
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
#include "../../core/timeout.hpp"
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
  control_server(cluster& primary, const std::string& path, variables environment = {})
      : control_server(primary, open_unix_listener(control_protocol::endpoint_of("control socket", path), 16, 0600)) {
    environment_ = std::move(environment);
  }

  control_server(const control_server&) = delete;
  control_server& operator=(const control_server&) = delete;

  /// Tells the followers of an event. cluster::next_event() gives each to one reader: who reads there calls this.
  void note(const cluster_event& event) {
    for (follower* each : followers_) {
      if (!each->events.try_push(event)) each->of.line.close();
    }
  }

  /// Serves clients until stop() is called. Call it once.
  ///
  /// Throws if nothing can be accepted any more. Cancelling disconnects all at once and throws operation_aborted. What
  /// clients have told the cluster to do goes on, but for reloads and upgrades.
  asio::awaitable<void> run() {
    std::exception_ptr failure;
    try {
      co_await accept();
      co_await finish();
    } catch (...) {
      failure = std::current_exception();
    }
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    stop();
    clients_.cancel();
    co_await clients_.wait_empty();
    reloads_.cancel();
    co_await reloads_.wait_empty();
    if (failure) std::rethrow_exception(failure);
  }

  /// Ends it: removes the file, tells the followers what they have not heard and lets the answers under way go out, for
  /// a second at most. Call it when all events have been noted.
  void stop() {
    if (std::exchange(stopped_, true)) return;
    acceptor_.close();
    file_.remove();
  }

 private:
  struct session {
    session(const asio::any_io_executor& executor, descriptor socket, const ucred& peer)
        : line(executor, std::move(socket), limits()), who(peer) {}

    static channel_options limits() {
      channel_options result;
      result.max_message = 1024 * 1024;
      result.max_calls = 8;
      return result;
    }

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
    ~answering() {
      if (--of.answering == 0) owner.answered_.notify();
    }
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

    asio::awaitable<cluster_stats> operator()(control_protocol::get_stats) {
      const answering mine(owner, *of);
      auto result = owner.primary_.stats();
      for (auto& each : result.slots) shorten(each.last_trouble);
      co_return result;
    }

    asio::awaitable<reload_result> operator()(control_protocol::reload) {
      const answering mine(owner, *of);
      if (owner.reloads_.size() >= max_reloads) throw_error("reload: others wait already", EBUSY);
      // Not a part of this coroutine: it is not to be left half done because a terminal was closed.
      const auto one = owner.begin<reload_result>();
      owner.reloads_.start(reload(owner.primary_, of->name(), one), end_of(one));
      co_await one->over.wait();
      if (one->failure) std::rethrow_exception(one->failure);
      co_return one->result;
    }

    asio::awaitable<upgrade_result> operator()(control_protocol::upgrade) {
      const answering mine(owner, *of);
      if (owner.reloads_.size() >= max_reloads) throw_error("upgrade: others wait already", EBUSY);
      const auto one = owner.begin<upgrade_result>();
      owner.reloads_.start(upgrade(owner.primary_, owner.environment_, one), end_of(one));
      co_await one->over.wait();
      if (one->failure) std::rethrow_exception(one->failure);
      co_return one->result;
    }

    asio::awaitable<control_protocol::outcome> operator()(control_protocol::scale wish) {
      const answering mine(owner, *of);
      control_protocol::outcome result;
      if (wish.workers == 0 || wish.workers > max_workers) {
        result.reason = fmt::format("scale: want 1 to {} workers, got {}", max_workers, wish.workers);
      } else if (owner.primary_.stats().stopping) {
        result.reason = "scale: the cluster stops";
      } else {
        owner.primary_.scale(wish.workers);
      }
      co_return result;
    }

    asio::awaitable<control_protocol::outcome> operator()(control_protocol::stop) {
      const answering mine(owner, *of);
      control_protocol::outcome result;
      owner.primary_.stop(of->name());
      co_return result;
    }

    asio::awaitable<control_protocol::outcome> operator()(control_protocol::kill_worker which) {
      const answering mine(owner, *of);
      control_protocol::outcome result;
      if (!owner.primary_.kill_worker(which.slot)) result.reason = fmt::format("no worker in slot {}", which.slot);
      co_return result;
    }

    asio::awaitable<control_protocol::outcome> operator()(control_protocol::follow, caller<control_protocol::protocol::to_client>& who) {
      const answering mine(owner, *of);
      follower here(owner.clients_.get_executor(), *of);
      const registration<follower*> listed(owner.followers_, &here);
      while (auto event = co_await here.events.pop()) {
        control_protocol::happened word;
        word.what = event->what;
        word.slot = event->slot;
        word.pid = event->pid;
        word.text = std::move(event->text);
        word.agent = std::move(event->agent);
        word.after = event->after;
        if (const auto run = event->run) {
          word.schedule = run->name;
          word.text = run->what;
          word.after = run->duration;
          word.attempt = run->attempt;
        }
        shorten(word.text);
        word.status = event->status;
        word.reason = event->reason;
        co_await who.progress(word);
      }
      control_protocol::outcome result;
      co_return result;
    }
  };

  control_server(cluster& primary, unix_listener opened)
      : primary_(primary),
        file_(std::move(opened.file)),
        acceptor_(primary.get_executor(), std::move(opened.socket)),
        clients_(primary.get_executor()),
        reloads_(primary.get_executor()),
        answered_(primary.get_executor()) {}

  static void shorten(std::string& text) {
    constexpr std::size_t longest = 256;
    if (text.size() > longest) text.resize(longest);
  }

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

  static asio::awaitable<void> reload(cluster& primary, std::string why, std::shared_ptr<pending<reload_result>> one) {
    one->result = co_await primary.reload(std::move(why));
  }

  static asio::awaitable<void> upgrade(cluster& primary, variables environment,
                                       std::shared_ptr<pending<upgrade_result>> one) {
    one->result = co_await primary.upgrade(std::move(environment));
  }

  asio::awaitable<void> accept() {
    constexpr int at_a_time = 16;
    while (!stopped_) {
      bool shortage = false;
      try {
        co_await acceptor_.wait();
        for (int i = 0; i < at_a_time && !stopped_; ++i) {
          descriptor accepted = acceptor_.try_accept();
          if (!accepted) break;
          admit(std::move(accepted));
        }
      } catch (const std::system_error& error) {
        if (stopped_) co_return;
        if (!acceptor::is_shortage(error.code())) throw;
        shortage = true;
      }
      if (shortage) co_await acceptor_.pause();
    }
  }

  void admit(descriptor socket) {
    ucred who{};
    socklen_t size = sizeof who;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) return;
    std::string reason;
    if (who.uid != 0 && who.uid != ::geteuid()) {
      reason = fmt::format("only root and user {} may, and this is user {}", ::geteuid(), who.uid);
    } else if (sessions_.size() >= max_clients) {
      reason = fmt::format("there are {} clients already", sessions_.size());
    }
    const auto one = std::make_shared<session>(clients_.get_executor(), std::move(socket), who);
    if (reason.empty()) {
      clients_.start(attend(one), [](std::exception_ptr) {});
    } else {
      clients_.start(turn_away(one, std::move(reason)), [](std::exception_ptr) {});
    }
  }

  /// Does not wait for the client: the kernel has room for these few bytes.
  static asio::awaitable<void> turn_away(session_ptr one, std::string reason) {
    control_protocol::refused word;
    word.reason = std::move(reason);
    co_await one->line.send(word);
    co_await one->line.disconnect();
  }

  asio::awaitable<void> attend(session_ptr one) {
    const registration<session_ptr> listed(sessions_, one);
    one->line.decline_handles();
    control_protocol::welcome word;
    word.pid = ::getpid();
    co_await one->line.send(word);
    task_group answers(clients_.get_executor());
    answers.start(one->line.serve_calls(handler{*this, one}), [](std::exception_ptr) {});
    try {
      // A client only calls: any message is one too many, and nothing means that it is gone.
      co_await one->line.receive();
    } catch (const std::system_error&) {
      // It sends nonsense, or is cancelled.
    }
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    one->line.close();
    answers.cancel();
    co_await answers.wait_empty();
  }

  /// The end of the clients that there are.
  asio::awaitable<void> finish() {
    for (follower* each : followers_) each->events.close();
    task_group farewells(clients_.get_executor());
    for (const auto& each : sessions_) farewells.start(dismiss(each), [](std::exception_ptr) {});
    std::exception_ptr cancelled;
    try {
      co_await with_timeout(farewells.wait_empty(), std::chrono::seconds(1));
    } catch (const std::system_error& error) {
      if (error.code() != errc::timed_out) cancelled = std::current_exception();
    }
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    farewells.cancel();
    co_await farewells.wait_empty();
    if (cancelled) std::rethrow_exception(cancelled);
  }

  asio::awaitable<void> dismiss(session_ptr one) {
    while (one->answering != 0) co_await answered_.wait();
    co_await one->line.disconnect();
  }

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
