// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <signal.h>
#include <unistd.h>

#include <fmt/format.h>

#include "../core/asio.hpp"
#include "../core/error.hpp"
#include "../core/event.hpp"
#include "../core/queue.hpp"
#include "../core/task_group.hpp"
#include "../core/timeout.hpp"
#include "../ipc/peer.hpp"
#include "../worker/protocol.hpp"
#include "../net/endpoint.hpp"
#include "supervision/agent_supervisor.hpp"
#include "supervision/worker_supervisor.hpp"
#include "distribution.hpp"
#include "events.hpp"
#include "distribution/handoff.hpp"
#include "distribution/shared_listener.hpp"
#include "distribution/open_listeners.hpp"
#include "supervision/message_router.hpp"
#include "options.hpp"
#include "reload.hpp"
#include "../schedule/runner.hpp"
#include "supervision/schedule_executor.hpp"
#include "../schedule/planner.hpp"
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
  asio::awaitable<int> run(upgrade::predecessor* predecessor = nullptr) {
    const finished_guard finished{*this};
    check_agents();
    (void)schedule_planner(schedules(), schedule::time_point::clock::now());  // throws for one that is wrong
    wanted_ = options_.worker_count();
    begun_ = worker_process::clock::now();
    std::vector<upgrade::listener> handed;
    if (predecessor != nullptr) {
      handed = co_await predecessor->listeners();
      generation_ = last_generation_ = predecessor->generation() + 1;
      if (predecessor->workers() != 0) wanted_ = predecessor->workers();
    }
    for (auto& each : open_listeners(options_, std::move(handed))) distribute(std::move(each), predecessor != nullptr);
    if (wanted_ != options_.worker_count()) resize(wanted_);
    const std::string trouble = co_await agents_.start();
    if (!trouble.empty()) give_up(trouble, nullptr);
    chores_.start(begin_together(predecessor), [](std::exception_ptr) {});
    for (unsigned number = 1; number <= wanted_ && !stop_.is_set(); ++number) start(number, generation_, at_once);
    drop_what_nobody_takes();

    co_await stop_.wait();
    for (auto& each : listeners_) each.file.remove();
    task_group closing(get_executor());
    for (const auto& each : listeners_) closing.start(each.to->stop(), [](std::exception_ptr) {});
    try {
      co_await with_timeout(closing.wait_empty(), options_.worker.drain_timeout);
    } catch (const std::system_error&) {
      // Time is up for what no worker takes.
      for (const auto& each : listeners_) each.to->cancel();
    }
    co_await closing.wait_empty();
    for (const auto& each : workers_) ask_to_stop(*each);
    co_await tasks_.wait_empty();
    co_await agents_.stop();
    co_await chores_.wait_empty();
    while (renewing_) co_await changed_.wait();  // an upgrade's successor is not to be left behind
    co_return gave_up_ ? 1 : 0;
  }

  /// Stops gracefully: listens no more, lets the workers finish, kills those that overrun the drain timeout by 5 s.
  void stop(const std::string& why) override {
    if (stop_.is_set()) return;
    emit(cluster_event(cluster_event::kind::stopping, 0, 0, why));
    if (successor_ != nullptr) successor_->signal(SIGTERM);
    begin_stop();
    agents_.begin_stop();
  }

  /// Waits until all agents and as many workers as there should be have been ready at the same time, for the first
  /// time. Not when it stops before: cancel it then, which throws operation_aborted.
  asio::awaitable<void> all_ready() { return all_ready_.wait(); }

  /// Whether it has been told to stop, or has given up.
  bool is_stopping() const noexcept { return stop_.is_set(); }

  /// Stops at once: kills every worker.
  void kill(const std::string& why) {
    stop(why);
    killed_ = true;
    for (const auto& each : listeners_) each.to->cancel();
    for (const auto& each : workers_) each->kill();
    agents_.kill();
  }

  /// Starts the primary's program as it is on the disk now, which takes the listeners over, by serve() or by run() with
  /// a predecessor. When all of its workers serve, this one stops gracefully; if that does not come about, this one
  /// goes on and the other is ended. Process 1 cannot be replaced.
  ///
  /// `environment`: variables that the new primary gets besides the present ones. One at a time, as reload().
  /// Cancelling throws operation_aborted and kills the new primary. When the cluster stops, so does this.
  asio::awaitable<upgrade_result> upgrade(std::vector<std::pair<std::string, std::string>> environment = {}) {
    upgrade_result result;
    const update_lock mine = co_await lock_updates();
    if (stop_.is_set()) result.reason = stopping_text;
    if (::getpid() == 1) result.reason = "process 1 cannot be replaced";
    peer<upgrade::protocol> successor;
    if (result.success()) {
      try {
        auto program = program_.on_disk().start();
        program.die_with_parent(false).process_group(process_group::inherit).env(upgrade::variable, "1");
        for (const auto& [name, value] : environment) program.env(name, value);
        successor = co_await spawn<upgrade::protocol>(std::move(program));
        result.pid = successor.pid();
      } catch (const std::system_error& error) {
        if (error.code() == asio::error::operation_aborted) throw;
        result.reason = error.what();
      }
    }
    if (result.success()) {
      emit(cluster_event(cluster_event::kind::upgrading, 0, result.pid));
      const borrowed_pointer known(successor_, successor);
      result.reason = co_await hand_over_to(successor);
    }
    if (result.success()) {
      successor.process().detach();
      emit(cluster_event(cluster_event::kind::upgraded, 0, result.pid));
      stop("upgraded");
      co_return result;
    }
    if (successor.process()) {
      const exit_status status = co_await end_successor(successor);
      result.reason += fmt::format(": primary {} {}", result.pid, status);
    }
    emit(cluster_event(cluster_event::kind::upgrade_failed, 0, result.pid, result.reason));
    co_return result;
  }

  /// Has all processes open their log files again, which have been moved away: tells the workers and the agents, and
  /// calls cluster_options::on_reopen.
  void reopen() {
    for (const auto& each : workers_) each->tell(worker_protocol::reopen());
    for (const auto& each : agents_.members()) each->tell(worker_protocol::reopen());
    if (options_.on_reopen) options_.on_reopen();
  }

  /// What there is now. Of each worker's own figures as it has told them last.
  cluster_stats stats() const {
    const auto now = worker_process::clock::now();
    const auto since = [now](worker_process::clock::time_point then) {
      return std::chrono::duration_cast<std::chrono::milliseconds>(now - then);
    };
    cluster_stats result;
    result.generation = generation_;
    result.wanted = wanted_;
    result.restarts = restarts_;
    result.reloads = reloads_;
    result.uptime = since(begun_);
    result.stopping = stop_.is_set();
    for (const auto& each : listeners_) {
      listener_stats one;
      one.address = each.address;
      for (const int fd : each.to->sockets()) one.queue = queue_of(fd, one.queue);
      result.listeners.push_back(std::move(one));
    }
    for (const auto& each : workers_) {
      worker_stats one;
      one.slot = each->number();
      one.generation = each->generation();
      one.pid = each->pid();
      one.state = each->state();
      if (one.state != worker_state::waiting) one.uptime = since(each->started());
      one.leased = each->open();
      one.open = each->health.open;
      one.served = each->health.served;
      one.memory = each->health.memory;
      one.lag = std::chrono::duration_cast<std::chrono::microseconds>(each->lag);
      if (each->is_serving()) ++result.ready;
      result.workers.push_back(one);
    }
    std::sort(result.workers.begin(), result.workers.end(), [](const auto& a, const auto& b) {
      return a.slot != b.slot ? a.slot < b.slot : a.generation < b.generation;
    });
    for (auto [number, past] : past_) {
      past.slot = number;  // a slot whose workers could not be started has no exit that would have noted it
      past.degraded = past.degraded && number <= wanted_;
      result.slots.push_back(std::move(past));
    }
    result.agents = agents_.stats();
    return result;
  }

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

  void emit(cluster_event event) override {
    while (!events_.try_push(std::move(event)) && !events_.is_closed()) (void)events_.try_pop();
  }

  /// `borrowed`: a predecessor's still.
  void distribute(opened_listener opened, bool borrowed) {
    listener_state mine;
    mine.text = opened.text;
    mine.address = opened.address;
    mine.inherited = opened.inherited;
    mine.file = std::move(opened.file);
    mine.handed_file = opened.handed_file;
    const auto number = static_cast<std::uint32_t>(listeners_.size());
    const auto owner = opened.inherited || borrowed ? queue_owner::others : queue_owner::cluster;
    auto& sockets = opened.sockets;
    const auto lease = [&](picking how) {
      mine.to = std::make_unique<handoff_distributor>(
          get_executor(), std::move(sockets.front()), number, std::move(how), options_.worker.max_connections,
          [this, text = mine.address](std::exception_ptr failure) { give_up(text, failure); }, owner);
    };
    switch (opened.distribution) {
      case distribution::round_robin: lease(pick_in_turn()); break;
      case distribution::least_connections: lease(pick_least_connections()); break;
      case distribution::by_address: lease(pick_by_address()); break;
      case distribution::custom: lease({options_.picker, false, true}); break;
      case distribution::shared:
        mine.to = std::make_unique<shared_distributor>(get_executor(), std::move(sockets.front()), number, owner);
        break;
      case distribution::reuse_port:
        mine.to = std::make_unique<reuse_port_distributor>(get_executor(), std::move(sockets), number,
                                                           std::move(opened.open_one_more), owner);
        break;
    }
    emit(cluster_event(cluster_event::kind::listening, 0, 0, mine.address));
    listeners_.push_back(std::move(mine));
  }

  /// Waits until all workers serve. Then says so to everybody, has the predecessor go, and begins with the schedules,
  /// which the predecessor's must not run beside.
  asio::awaitable<void> begin_together(upgrade::predecessor* predecessor) {
    while (!stop_.is_set() && serving() < static_cast<std::ptrdiff_t>(wanted_)) co_await changed_.wait();
    if (stop_.is_set()) co_return;
    all_ready_.set();
    for (const auto& each : workers_) each->tell(worker_protocol::all_ready());
    agents_.announce();
    if (predecessor != nullptr) co_await succeed(*predecessor);
    if (options_.schedules.empty()) co_return;
    schedule_planner planner(schedules(), schedule::time_point::clock::now());
    schedule_executor place(workers_, agents_.members(), [this](const schedule_result& result) {
      cluster_event event(cluster_event::kind::schedule_ran, result.worker);
      event.run = std::make_shared<const schedule_result>(result);
      emit(std::move(event));
    });
    wall_clock clock;
    co_await run_schedules(planner, clock, place, stop_);
  }

  asio::awaitable<void> succeed(upgrade::predecessor& predecessor) {
    std::vector<std::string> texts;
    for (auto& each : listeners_) {
      texts.push_back(each.text);
      if (!each.inherited) each.to->own(queue_owner::cluster);
      if (!each.handed_file.empty()) each.file = socket_file(each.handed_file);
    }
    co_await predecessor.dismiss(std::move(texts));
  }

  /// Ends a successor that will not be one, unless it does so itself, as one does that gives up.
  static asio::awaitable<exit_status> end_successor(peer<upgrade::protocol>& successor) {
    exit_status status;
    bool ended = true;
    successor.close();
    try {
      status = co_await with_timeout(successor.wait(), std::chrono::seconds(1));
    } catch (const std::system_error& error) {
      if (error.code() == asio::error::operation_aborted) throw;
      ended = false;
    }
    if (!ended) status = co_await successor.stop();
    co_return status;
  }

  /// Hands the listeners to the successor and waits for its word; says what is wrong, if anything.
  asio::awaitable<std::string> hand_over_to(peer<upgrade::protocol>& successor) {
    try {
      for (const auto& each : listeners_) {
        upgrade::listener what;
        what.text = each.text;
        what.address = each.address;
        what.file = each.file.path();
        what.inherited = each.inherited;
        co_await upgrade::hand_over(successor, std::move(what), each.to->sockets());
      }
      upgrade::begin last;
      last.generation = generation_;
      if (wanted_ != options_.worker_count()) last.workers = wanted_;
      co_await successor.send(last);
      const auto word = co_await with_timeout(successor.receive(), options_.start_timeout + kill_after);
      if (word) {
        for (auto& each : listeners_) {
          if (std::find(word->texts.begin(), word->texts.end(), each.text) == word->texts.end()) continue;
          each.to->own(queue_owner::others);
          each.file.release();
        }
        co_return std::string();
      }
    } catch (const std::system_error& error) {
      if (error.code() == asio::error::operation_aborted) throw;
      if (error.code() != errc::peer_closed) co_return error.what();
    }
    co_return stop_.is_set() ? stopping_text : std::string("it did not get ready");
  }

  std::vector<schedule> schedules() const {
    std::vector<schedule> result;
    for (const auto& each : options_.schedules) result.push_back(each.when);
    return result;
  }

  void check_agents() const {
    std::set<std::string> names;
    for (const auto& each : options_.agents) {
      if (each.name.empty()) throw_error("agent: an empty name", errc::invalid_option);
      if (!names.insert(each.name).second) {
        throw_error(fmt::format("agent {}: the name is used twice", each.name), errc::invalid_option);
      }
      if (options_.program && !each.command) {
        throw_error(fmt::format("agent {}: the cluster's program is one of workers alone", each.name),
                    errc::invalid_option);
      }
    }
    for (const auto& each : schedules()) {
      if (each.place() != schedule_place::agent) continue;
      if (each.agent().empty() ? names.empty() : !names.contains(each.agent())) {
        throw_error(fmt::format("schedule \"{}\": there is no agent {}", each.name(), each.agent()),
                    errc::invalid_option);
      }
    }
  }

  void replace_slow(worker_process& who) {
    fail(who, "too slow for its messages");
    who.tell(worker_protocol::drain());
  }

  message_router& router() override { return router_; }
  void on_agent_event(cluster_event event) override { emit(std::move(event)); }
  void on_agent_lost(const std::string& why) override { give_up(why, nullptr); }
  command own_program() override { return program_.start(); }

  void on_agent(const std::string& name, bool is_there) override {
    if (stop_.is_set()) return;
    if (is_there) {
      tell_workers(agent_back{name});
    } else {
      tell_workers(agent_gone{name});
    }
  }

  template <class M>
  void tell_workers(const M& message) {
    byte_buffer bytes;
    encode(bytes, message);
    chores_.start(send_to_workers(fingerprint<M>(), std::string(bytes.view())), [](std::exception_ptr) {});
  }

  asio::awaitable<void> send_to_workers(std::uint64_t type, std::string body) {
    co_await router_.endpoint().send(recipient::workers(), type, std::move(body));
  }

  void join(const worker_ptr& who) override {
    if (all_ready_.is_set()) who->tell(worker_protocol::all_ready());
    for (const auto& each : listeners_) each.to->join(who);
  }

  void leave(const worker_ptr& who) override {
    for (const auto& each : listeners_) each.to->leave(who);
  }

  void on_ended(const worker_ptr&) override {
    for (const auto& each : listeners_) each.to->on_ended();
  }

  void nobody_takes() override {
    for (const auto& each : listeners_) each.to->cancel();
  }

  void resize(unsigned workers) override {
    if (successor_ != nullptr) {  // it has been told how many already
      throw_error("an upgrade is under way", errc::invalid_option);
    }
    for (const auto& each : listeners_) each.to->resize(workers);
  }

  bool workers_accept() const override {
    return std::any_of(listeners_.begin(), listeners_.end(),
                       [](const auto& each) { return each.to->workers_accept(); });
  }

  queue<cluster_event> events_;
  event all_ready_;
  std::vector<listener_state> listeners_;
  agent_supervisor agents_;
  message_router router_;
  peer<upgrade::protocol>* successor_ = nullptr;
  worker_process::clock::time_point begun_{};
};

}  // namespace cohort
