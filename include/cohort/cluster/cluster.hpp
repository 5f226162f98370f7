// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

#include "../core/asio.hpp"
#include "../core/error.hpp"
#include "../core/event.hpp"
#include "../core/queue.hpp"
#include "../ipc/peer.hpp"
#include "supervision/agent_supervisor.hpp"
#include "supervision/worker_supervisor.hpp"
#include "distribution.hpp"
#include "events.hpp"
#include "distribution/open_listeners.hpp"
#include "supervision/message_router.hpp"
#include "options.hpp"
#include "supervision/worker_process.hpp"
#include "stats.hpp"
#include "upgrade/protocol.hpp"

namespace cohort {

/// The primary of a cluster: keeps N workers alive behind a set of listeners.
///
/// It binds once, starts the workers, brings the connections to those that are ready, replaces those that end (a
/// draining one already while it drains), and stops them all before it ends itself. If it dies, its workers see their
/// channels close, drain and end.
///
/// Distinct objects: safe. Shared objects: unsafe.
class cluster final : private worker_supervisor, private agent_owner {
 public:
  cluster(asio::any_io_executor executor, cluster_options options)
      : worker_supervisor(executor, detail::normalized(std::move(options))),
        events_(executor, 1024),
        all_ready_(executor),
        agents_(executor, options_, *this),
        router_(executor, workers_, agents_.members(), [this](const worker_ptr& who) { replace_slow(*who); }) {}

  cluster(const cluster&) = delete;
  cluster& operator=(const cluster&) = delete;

  using worker_supervisor::get_executor;
  using worker_supervisor::kill_worker;
  using worker_supervisor::reload;
  using worker_supervisor::scale;
  using worker_supervisor::size;

  /// What messages of the primary itself go and come by; see `messenger`.
  message_endpoint& messages() noexcept { return router_.endpoint(); }

  /// Serves until stop() or kill() is called or the restart policy gives up, and returns when every worker is gone: 0,
  /// or 1 if it gave up. Call it once. Cancelling it is not supported: call stop().
  ///
  /// Throws `listen 127.0.0.1:8000: Address already in use` and its like before any worker is started.
  ///
  /// With a `predecessor`, which must live until this returns, it takes that one's listeners over, and tells it to go
  /// when all workers serve.
  asio::awaitable<int> run(upgrade::predecessor* predecessor = nullptr);

  /// Stops gracefully: listens no more, lets the workers finish, kills those that overrun the drain timeout by 5 s.
  void stop(const std::string& why) override;

  /// Waits until all agents and as many workers as there should be have been ready at the same time, for the first
  /// time. Not when it stops before: cancel it then, which throws operation_aborted.
  asio::awaitable<void> all_ready() { return all_ready_.wait(); }

  /// Whether it has been told to stop, or has given up.
  bool is_stopping() const noexcept { return stop_.is_set(); }

  /// Stops at once: kills every worker.
  void kill(const std::string& why);

  /// Starts the primary's program as it is on the disk now, which takes the listeners over, by serve() or by run() with
  /// a predecessor. When all of its workers serve, this one stops gracefully; if that does not come about, this one
  /// goes on and the other is ended. Process 1 cannot be replaced.
  ///
  /// `environment`: variables that the new primary gets besides the present ones. One at a time, as reload().
  /// Cancelling throws operation_aborted and kills the new primary. When the cluster stops, so does this.
  asio::awaitable<upgrade_result> upgrade(std::vector<std::pair<std::string, std::string>> environment = {});

  /// Has all processes open their log files again, which have been moved away: tells the workers and the agents, and
  /// calls cluster_options::on_reopen.
  void reopen();

  /// What there is now. Of each worker's own figures as it has told them last.
  cluster_stats stats() const;

  /// The next event; empty when run() has ended and all have been taken. Nobody need read them: of those that wait, the
  /// last 1024 are kept. Cancelling takes nothing.
  asio::awaitable<std::optional<cluster_event>> next_event() { return events_.pop(); }

 private:
  struct listener_state {
    std::string text;     // as the options name it
    std::string address;  // with the port that was chosen
    bool inherited = false;
    socket_file file;         // of a unix socket
    std::string handed_file;  // the same, while it is a predecessor's
    std::unique_ptr<distributor> to;
  };

  /// Lets stop() find the successor while there is one that is not ready.
  struct borrowed_pointer {
    borrowed_pointer(peer<upgrade::protocol>*& p, peer<upgrade::protocol>& to) : place(p) { place = &to; }
    ~borrowed_pointer() { place = nullptr; }
    peer<upgrade::protocol>*& place;
  };

  struct finished_guard {
    cluster& owner;
    ~finished_guard() { owner.events_.close(); }
  };

  void emit(cluster_event event) override;

  /// `borrowed`: a predecessor's still.
  void distribute(opened_listener opened, bool borrowed);

  /// Waits until all workers serve. Then says so to everybody, has the predecessor go, and begins with the schedules,
  /// which the predecessor's must not run beside.
  asio::awaitable<void> begin_together(upgrade::predecessor* predecessor);

  asio::awaitable<void> succeed(upgrade::predecessor& predecessor);

  /// Ends a successor that will not be one, unless it does so itself, as one does that gives up.
  static asio::awaitable<exit_status> end_successor(peer<upgrade::protocol>& successor);

  /// Hands the listeners to the successor and waits for its word; says what is wrong, if anything.
  asio::awaitable<std::string> hand_over_to(peer<upgrade::protocol>& successor);

  std::vector<schedule> schedules() const;

  void check_agents() const;

  void replace_slow(worker_process& who);

  message_router& router() override { return router_; }
  void on_agent_event(cluster_event event) override { emit(std::move(event)); }
  void on_agent_lost(const std::string& why) override { give_up(why, nullptr); }
  command own_program() override { return program_.start(); }

  void on_agent(const std::string& name, bool is_there) override;

  template <class M>
  void tell_workers(const M& message) {
    byte_buffer bytes;
    encode(bytes, message);
    chores_.start(send_to_workers(fingerprint<M>(), std::string(bytes.view())), [](std::exception_ptr) {});
  }

  asio::awaitable<void> send_to_workers(std::uint64_t type, std::string body);

  void join(const worker_ptr& who) override;

  void leave(const worker_ptr& who) override;

  void on_ended(const worker_ptr&) override;

  void nobody_takes() override;

  void resize(unsigned workers) override;

  bool workers_accept() const override;

  queue<cluster_event> events_;
  event all_ready_;
  std::vector<listener_state> listeners_;
  agent_supervisor agents_;
  message_router router_;
  peer<upgrade::protocol>* successor_ = nullptr;
  worker_process::clock::time_point begun_{};
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "cluster.ipp"
#endif
