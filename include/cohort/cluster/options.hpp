// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sys/types.h>
#include <unistd.h>

#include "../process/command.hpp"
#include "../worker/worker.hpp"
#include "events.hpp"
#include "restart_policy.hpp"

namespace cohort {

/// How the connections of a listener reach the workers.
enum class distribution {
  /// The primary accepts and leases each socket to the next worker in turn. One that a worker has not taken when it
  /// dies or refuses goes to another. What nobody has room for waits in the kernel's queue.
  round_robin,
  /// All workers accept on the same listener: no hop through the primary, and no say in who gets how many.
  shared,
  /// A listener a slot (SO_REUSEPORT, socket(7)): the kernel spreads connections by their addresses. The primary makes
  /// and keeps them all, and lends that of a slot without a worker to another one. An address that somebody listens on
  /// already is refused, even if the kernel would let this user share it. Unix sockets, which have nothing like it, are
  /// shared; of inherited sockets there must be one for each worker.
  reuse_port,
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
  /// `fd:http` is every inherited socket of that name (see inherited_sockets), `fd:3` the one with that number, even if
  /// it came by other means; it is the cluster's from then on. It stays as it was made: backlog(), defer_accept() and
  /// socket_mode() are not for it. What waits there when the cluster stops is left to who listens next.
  cluster_options& listen(std::string address) {
    addresses_.push_back(std::move(address));
    return *this;
  }

  /// How many workers; 0, as at first: one for each processor.
  cluster_options& workers(unsigned count) {
    workers_ = count;
    return *this;
  }

  cluster_options& distribute(distribution how) {
    distribution_ = how;
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
  /// their parents have ended: see reap_strangers(). If not set, it does when its process is number 1, as in a
  /// container without an init.
  cluster_options& reap_strangers(bool on) {
    reap_strangers_ = on;
    return *this;
  }

  cluster_options& worker(const worker_options& options) {
    worker_ = options;
    worker_.drain_timeout = std::min(worker_.drain_timeout, detail::longest_time);
    return *this;
  }

  cluster_options& restart(const restart_policy& policy) {
    restart_ = policy;
    return *this;
  }

  /// How long a worker may take until it is ready, before it is killed and counts as a failed boot. 60 s at first.
  cluster_options& start_timeout(std::chrono::milliseconds limit) {
    start_timeout_ = std::min(limit, detail::longest_time);
    return *this;
  }

  /// The program that workers are, which must call run_worker(); at first the one that runs, with its own arguments.
  cluster_options& command(cohort::command program) {
    command_ = std::move(program);
    return *this;
  }

  /// What serve() does with each event, in the primary; at first it writes to_string(event) to stderr.
  cluster_options& on_event(std::function<void(const cluster_event&)> callback) {
    on_event_ = std::move(callback);
    return *this;
  }

  const std::vector<std::string>& addresses() const noexcept { return addresses_; }
  unsigned worker_count() const noexcept {
    if (workers_ != 0) return workers_;
    const unsigned processors = std::thread::hardware_concurrency();
    return processors != 0 ? processors : 1;
  }
  cohort::distribution distribution() const noexcept { return distribution_; }
  int backlog() const noexcept { return backlog_; }
  bool defer_accept() const noexcept { return defer_accept_; }
  std::optional<mode_t> socket_mode() const noexcept { return socket_mode_; }
  bool reap_strangers() const noexcept { return reap_strangers_.value_or(::getpid() == 1); }
  const worker_options& worker() const noexcept { return worker_; }
  const restart_policy& restart() const noexcept { return restart_; }
  std::chrono::milliseconds start_timeout() const noexcept { return start_timeout_; }
  const std::optional<cohort::command>& command() const noexcept { return command_; }
  const std::function<void(const cluster_event&)>& on_event() const noexcept { return on_event_; }

 private:
  std::vector<std::string> addresses_;
  unsigned workers_ = 0;
  cohort::distribution distribution_ = cohort::distribution::round_robin;
  int backlog_ = 4096;
  bool defer_accept_ = false;
  std::optional<mode_t> socket_mode_;
  std::optional<bool> reap_strangers_;
  worker_options worker_;
  restart_policy restart_;
  std::chrono::milliseconds start_timeout_{60'000};
  std::optional<cohort::command> command_;
  std::function<void(const cluster_event&)> on_event_;
};

}  // namespace cohort
