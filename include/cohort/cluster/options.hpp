// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include "../process/command.hpp"
#include "../worker/options.hpp"
#include "agent.hpp"
#include "distribution.hpp"
#include "events.hpp"
#include "../messaging/delivery_queue.hpp"
#include "picker.hpp"
#include "reload.hpp"
#include "restart_policy.hpp"
#include "../schedule/schedule.hpp"

namespace cohort {

class cluster;

namespace detail {
inline constexpr std::chrono::milliseconds shortest_ping{1};
}  // namespace detail

/// What a signal to the primary of serve() means.
enum class cluster_action {
  none,        ///< the signal stays what it is without serve()
  stop,        ///< INT, TERM: stop gracefully; a second one at once
  kill,        ///< QUIT: stop at once
  reload,      ///< HUP: cluster::reload()
  scale_up,    ///< TTIN: one worker more
  scale_down,  ///< TTOU: one worker less
  reopen,      ///< USR1: cluster::reopen()
  upgrade,     ///< USR2: cluster::upgrade()
};

/// An address that a cluster listens on.
struct listen_address {
  std::string text;
  std::optional<cohort::distribution> distribution;  ///< the cluster's, if not set

  bool operator==(const listen_address&) const = default;
};

/// What a cluster is to be. Setters return the object, so that they chain; name it, then pass it.
///
/// Distinct objects: safe. Shared objects: unsafe.
class cluster_options {
 public:
  cluster_options() = default;

  /// Adds an address to listen on: `127.0.0.1:8000`, `[::1]:8000`, `:8000` for all IPv4 addresses, `[::]:8000` for all
  /// of both kinds (unless net.ipv6.bindv6only is set, ipv6(7)); port 0 lets the kernel choose one.
  ///
  /// `unix:/run/app.sock`, and `unix:@name` for an abstract name, are for handlers that take a local or a generic
  /// socket (see connection_handler). A file that nobody accepts at is replaced; the cluster removes its own when it
  /// stops.
  ///
  /// `udp:127.0.0.1:5353`: datagrams, for worker_options::serve_datagrams. With distribution::reuse_port each worker
  /// has a socket of its own, else all have the same one.
  ///
  /// `fd:http` is every inherited socket of that name (see inherited_sockets), `fd:3` the one with that number, even if
  /// it came by other means; it is the cluster's from then on. It stays as it was made: backlog(), defer_accept() and
  /// socket_mode() are not for it. What waits there when the cluster stops is left to who listens next.
  cluster_options& listen(std::string address) {
    addresses_.push_back({std::move(address), std::nullopt});
    return *this;
  }

  /// The same, with a distribution of its own.
  cluster_options& listen(std::string address, distribution how) {
    addresses_.push_back({std::move(address), how});
    return *this;
  }

  /// How many workers; 0, as at first: one for each processor.
  cluster_options& workers(unsigned count) {
    workers_ = count;
    return *this;
  }

  /// How connections reach the workers, where an address does not say it itself. round_robin at first.
  cluster_options& distribute(distribution how) {
    distribution_ = how;
    return *this;
  }

  /// Lets this picker choose the worker, at all addresses of distribution::custom; makes that the one for those that do
  /// not say it themselves.
  cluster_options& distribute(cohort::picker choose) {
    picker_ = std::move(choose);
    distribution_ = cohort::distribution::custom;
    return *this;
  }

  /// Connections that the kernel keeps for a listener; cut to net.core.somaxconn. 4096 at first.
  cluster_options& backlog(int connections) {
    backlog_ = connections;
    return *this;
  }

  /// Tells of a connection only when its first bytes are there (TCP_DEFER_ACCEPT, tcp(7)): cheaper where clients speak
  /// first. Those that have not spoken when the cluster stops are dropped. Off at first.
  cluster_options& defer_accept(bool on) {
    defer_accept_ = on;
    return *this;
  }

  /// The permissions of the files of `unix:` addresses, 0660 for instance; those that the umask leaves, if not set.
  cluster_options& socket_mode(mode_t mode) {
    socket_mode_ = mode;
    return *this;
  }

  /// Whether serve() reaps processes that it has not started and that have become children of its process, because
  /// their parents have ended: see reap_orphans(). If not set, it does when its process is number 1, as in a
  /// container without an init.
  cluster_options& reap_orphans(bool on) {
    reap_orphans_ = on;
    return *this;
  }

  cluster_options& worker(const worker_options& options) {
    auto jobs = std::move(worker_.jobs);  // of schedules that have been added already
    worker_ = options;
    worker_.jobs.merge(jobs);
    worker_.drain_timeout = std::min(worker_.drain_timeout, detail::longest_time);
    return *this;
  }

  cluster_options& restart(const restart_policy& policy) {
    restart_ = policy;
    return *this;
  }

  /// Asked with the slot and the reason when the restart policy gives up on it: instead of restart_policy::on_give_up.
  cluster_options& on_give_up(std::function<give_up_action(unsigned slot, const std::string& why)> decide) {
    on_give_up_ = std::move(decide);
    return *this;
  }

  /// How long a worker may take until it is ready, before it is killed and counts as a failed boot. 60 s at first.
  cluster_options& start_timeout(std::chrono::milliseconds limit) {
    start_timeout_ = std::min(limit, detail::longest_time);
    return *this;
  }

  /// How many workers start at the same time; the others wait. 0, as at first: no limit.
  cluster_options& max_starting(unsigned count) {
    max_starting_ = count;
    return *this;
  }

  /// How long the loop of a worker may not turn before the worker counts as hung: it gets SIGABRT, 5 s later SIGKILL,
  /// and is replaced. Counted in pings of the primary's own running time, so that a machine that was suspended, or a
  /// primary that was stopped, blames nobody. 30 s at first; 0 asks no worker anything.
  cluster_options& hang_timeout(std::chrono::milliseconds limit) {
    hang_timeout_ = std::min(limit, detail::longest_time);
    return *this;
  }

  /// How often workers are asked whether they still turn, and how they are. 1 s at first, or a quarter of the hang
  /// timeout if that is less.
  cluster_options& ping_interval(std::chrono::milliseconds interval) {
    ping_interval_ = interval;
    return *this;
  }

  /// When a worker is replaced by a fresh one, as a reload does it and one at a time. Never at first.
  cluster_options& recycle(const recycle_limits& limits) {
    recycle_ = limits;
    return *this;
  }

  /// How a reload goes.
  cluster_options& reload(const reload_options& how) {
    reload_ = how;
    return *this;
  }

  /// The program that workers are, which must call run_worker(); at first the one that runs, with its own arguments.
  cluster_options& command(cohort::command program) {
    command_ = std::move(program);
    return *this;
  }

  /// Called before each start of a worker, with its slot and the command that it will be: for an environment, a
  /// processor or a limit of its own.
  cluster_options& on_start(std::function<void(unsigned slot, cohort::command& program)> callback) {
    on_start_ = std::move(callback);
    return *this;
  }

  /// Adds an agent: see agent_options.
  cluster_options& agent(agent_options what) {
    agents_.push_back(std::move(what));
    return *this;
  }

  /// Adds an agent of this name, which runs `run`.
  cluster_options& agent(std::string name, agent_options::function run) {
    agents_.emplace_back(std::move(name), std::move(run));
    return *this;
  }

  /// Adds a schedule, and what is to be done in the worker or the agent when it is time. Schedules begin when all are
  /// ready, and end first when the cluster stops; a run that is under way then is waited for as a connection is.
  cluster_options& schedule(cohort::schedule when, std::function<asio::awaitable<void>(cohort::worker&)> job) {
    worker_.jobs.insert_or_assign(when.name(), std::move(job));
    schedules_.push_back(std::move(when));
    return *this;
  }

  /// How the primary keeps messages for processes that are slow; see messenger.
  cluster_options& mail(const delivery_options& how) {
    mail_ = how;
    return *this;
  }

  /// Runs in the primary of serve(), beside the cluster, until that stops, which cancels it: to send and hear messages
  /// there, scale by the load, and so on. What it throws stops the cluster, and serve() returns 1.
  cluster_options& in_primary(std::function<asio::awaitable<void>(cluster&)> what) {
    in_primary_ = std::move(what);
    return *this;
  }

  /// Where serve() lets itself be looked at and told what to do: a unix socket with this path, for control_client and
  /// cohortctl. See control_server. None at first.
  cluster_options& control_socket(std::string path) {
    control_socket_ = std::move(path);
    return *this;
  }

  /// What serve() does on a signal; see cluster_action for what it does at first.
  cluster_options& on_signal(int number, cluster_action action) {
    signals_.insert_or_assign(number, action);
    return *this;
  }

  /// What the primary does when it is told to open its log files again.
  cluster_options& on_reopen(std::function<void()> callback) {
    on_reopen_ = std::move(callback);
    return *this;
  }

  /// What serve() does with each event, in the primary; at first it writes to_string(event) to stderr.
  cluster_options& on_event(std::function<void(const cluster_event&)> callback) {
    on_event_ = std::move(callback);
    return *this;
  }

  const std::vector<listen_address>& addresses() const noexcept { return addresses_; }
  unsigned worker_count() const noexcept {
    if (workers_ != 0) return workers_;
    const unsigned processors = std::thread::hardware_concurrency();
    return processors != 0 ? processors : 1;
  }
  cohort::distribution distribution() const noexcept { return distribution_; }
  const cohort::picker& picker() const noexcept { return picker_; }
  int backlog() const noexcept { return backlog_; }
  bool defer_accept() const noexcept { return defer_accept_; }
  std::optional<mode_t> socket_mode() const noexcept { return socket_mode_; }
  bool reap_orphans() const noexcept { return reap_orphans_.value_or(::getpid() == 1); }
  const worker_options& worker() const noexcept { return worker_; }
  const restart_policy& restart() const noexcept { return restart_; }
  std::chrono::milliseconds start_timeout() const noexcept { return start_timeout_; }
  unsigned max_starting() const noexcept { return max_starting_; }
  std::chrono::milliseconds hang_timeout() const noexcept { return hang_timeout_; }
  std::chrono::milliseconds ping_interval() const noexcept {
    return hang_timeout_.count() != 0 ? std::min(ping_interval_, std::max(hang_timeout_ / 4, detail::shortest_ping))
                                      : ping_interval_;
  }
  const recycle_limits& recycle() const noexcept { return recycle_; }
  const reload_options& reload() const noexcept { return reload_; }
  const std::optional<cohort::command>& command() const noexcept { return command_; }
  const std::function<void(unsigned, cohort::command&)>& on_start() const noexcept { return on_start_; }
  const std::vector<agent_options>& agents() const noexcept { return agents_; }
  const std::vector<cohort::schedule>& schedules() const noexcept { return schedules_; }
  const delivery_options& mail() const noexcept { return mail_; }
  const std::function<asio::awaitable<void>(cluster&)>& in_primary() const noexcept { return in_primary_; }
  const std::string& control_socket() const noexcept { return control_socket_; }
  const std::map<int, cluster_action>& signals() const noexcept { return signals_; }
  const std::function<give_up_action(unsigned, const std::string&)>& on_give_up() const noexcept { return on_give_up_; }
  const std::function<void()>& on_reopen() const noexcept { return on_reopen_; }
  const std::function<void(const cluster_event&)>& on_event() const noexcept { return on_event_; }

 private:
  std::vector<listen_address> addresses_;
  unsigned workers_ = 0;
  cohort::distribution distribution_ = cohort::distribution::round_robin;
  cohort::picker picker_;
  int backlog_ = 4096;
  bool defer_accept_ = false;
  std::optional<mode_t> socket_mode_;
  std::optional<bool> reap_orphans_;
  worker_options worker_;
  restart_policy restart_;
  std::chrono::milliseconds start_timeout_{60'000};
  unsigned max_starting_ = 0;
  std::chrono::milliseconds hang_timeout_{30'000};
  std::chrono::milliseconds ping_interval_{1'000};
  recycle_limits recycle_;
  reload_options reload_;
  std::optional<cohort::command> command_;
  std::function<void(unsigned, cohort::command&)> on_start_;
  std::vector<agent_options> agents_;
  std::vector<cohort::schedule> schedules_;
  delivery_options mail_;
  std::function<asio::awaitable<void>(cluster&)> in_primary_;
  std::string control_socket_;
  std::map<int, cluster_action> signals_ = {
      {SIGINT, cluster_action::stop},    {SIGTERM, cluster_action::stop},     {SIGQUIT, cluster_action::kill},
      {SIGHUP, cluster_action::reload},  {SIGTTIN, cluster_action::scale_up}, {SIGTTOU, cluster_action::scale_down},
      {SIGUSR1, cluster_action::reopen}, {SIGUSR2, cluster_action::upgrade},
  };
  std::function<give_up_action(unsigned, const std::string&)> on_give_up_;
  std::function<void()> on_reopen_;
  std::function<void(const cluster_event&)> on_event_;
};

}  // namespace cohort
