// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../core/asio.hpp"
#include "events.hpp"
#include "options.hpp"
#include "reload.hpp"
#include "stats.hpp"
#include "upgrade/result.hpp"

namespace cohort {

class message_endpoint;
class primary;

namespace upgrade {
class predecessor;
}

/// The primary of a cluster: keeps N workers alive behind a set of listeners.
///
/// It binds once, starts the workers, brings the connections to those that are ready, replaces those that end (a
/// draining one already while it drains), and stops them all before it ends itself. If it dies, its workers see their
/// channels close, drain and end.
///
/// Distinct objects: safe. Shared objects: unsafe; all calls are made on the executor.
class cluster {
 public:
  cluster(asio::any_io_executor executor, cluster_options options);
  ~cluster();

  cluster(const cluster&) = delete;
  cluster& operator=(const cluster&) = delete;

  asio::any_io_executor get_executor();

  /// Serves until stop() or kill() is called or the restart policy gives up, and returns when every worker is gone: 0,
  /// or 1 if it gave up or had to kill a worker. Call it once. Cancelling it is not supported: call stop().
  ///
  /// Throws `listen 127.0.0.1:8000: Address already in use` and its like before any worker is started.
  ///
  /// With a `predecessor`, which must live until this returns, it takes that one's listeners over, and tells it to go
  /// when all workers serve.
  asio::awaitable<int> run(upgrade::predecessor* predecessor = nullptr);

  /// Stops gracefully: after cluster_options::lame_duck, which a second call cuts short, listens no more, lets the
  /// workers finish, kills those that overrun the drain timeout by 5 s.
  void stop(const std::string& why);

  /// Stops at once: kills every worker.
  void kill(const std::string& why);

  /// Whether it has been told to stop, or has given up.
  bool is_stopping() const noexcept;

  /// Whether it was told to stop and accepts still: see cluster_options::lame_duck.
  bool is_lame_duck() const noexcept;

  /// Waits until all agents and as many workers as there should be have been ready at the same time, for the first
  /// time. If the cluster stops before, this does not return: cancel it then, which throws operation_aborted.
  asio::awaitable<void> all_ready();

  /// Replaces every worker by a new one, of the program as it is on the disk now: starts new ones, and has the old ones
  /// drain when the new ones are ready, see reload_options. A new one that does not get ready ends this, and what it
  /// was to replace goes on.
  ///
  /// One at a time: a second call waits for the first one, and then does its own. Cancelling throws operation_aborted;
  /// new workers that do not serve yet are sent away. When the cluster stops, so does this.
  asio::awaitable<reload_result> reload(std::string why = "asked");

  /// Starts the primary's program as it is on the disk now, which takes the listeners over, by serve() or by run() with
  /// a predecessor. When all of its workers serve, this one stops gracefully; if that does not come about, this one
  /// goes on and the other is ended. Process 1 cannot be replaced.
  ///
  /// `environment`: variables that the new primary gets besides the present ones. One at a time, as reload().
  /// Cancelling throws operation_aborted and kills the new primary. When the cluster stops, so does this.
  asio::awaitable<upgrade_result> upgrade(std::vector<std::pair<std::string, std::string>> environment = {});

  /// Has so many workers from now on, one at least: starts those that are missing, and has those of the highest slots
  /// drain. Throws what a further listener of distribution::reuse_port may throw, and errc::invalid_option while an
  /// upgrade is under way; then nothing has changed.
  void scale(unsigned workers);

  /// How many workers there should be.
  unsigned size() const noexcept;

  /// Ends one worker as a crash would: it is replaced by the restart policy. False if there is none in this slot.
  bool kill_worker(unsigned slot);

  /// Has all processes open their log files again, which have been moved away: tells the workers and the agents, and
  /// calls cluster_options::on_reopen.
  void reopen();

  /// What messages of the primary itself go and come by; see `messenger`.
  message_endpoint& messages() noexcept;

  /// What there is now. Of each worker the figures that it has told last.
  cluster_stats stats() const;

  /// The next event; empty when run() has ended and all have been taken. Nobody need read them: of those that wait, the
  /// last 1024 are kept. Cancelling takes nothing.
  asio::awaitable<std::optional<cluster_event>> next_event();

 private:
  // A loop that is destroyed with run() in it does that after the cluster has gone.
  static asio::awaitable<int> keep(std::shared_ptr<primary> which, asio::awaitable<int> running);

  std::shared_ptr<primary> primary_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "cluster.ipp"
#endif
