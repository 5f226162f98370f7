// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <signal.h>
#include <sys/types.h>

#include "../messaging/options.hpp"
#include "../process/command.hpp"
#include "../schedule/schedule.hpp"
#include "../worker/options.hpp"
#include "agent.hpp"
#include "distribution.hpp"
#include "events.hpp"
#include "limits.hpp"
#include "listen_address.hpp"
#include "picker.hpp"
#include "reload.hpp"
#include "restart_policy.hpp"

namespace cohort {

class cluster;
class listener_set;
class worker_dialect;
struct primary_context;

/// What a signal to the primary of serve() means.
enum class cluster_action {
  none,        ///< the signal stays what it is without serve()
  stop,        ///< INT, TERM: stop gracefully; one that comes a second or more later: at once
  kill,        ///< QUIT: stop at once
  reload,      ///< HUP: cluster::reload()
  scale_up,    ///< TTIN: one worker more
  scale_down,  ///< TTOU: one worker less
  reopen,      ///< USR1: cluster::reopen()
  upgrade,     ///< USR2: cluster::upgrade()
};

/// Makes the dialect of one cluster, whose parts outlive it: see cluster_options::dialect.
using dialect_factory = std::function<std::shared_ptr<worker_dialect>(primary_context&, listener_set&)>;

/// A schedule, and what a worker or an agent does when it is time.
struct scheduled_job {
  scheduled_job(schedule when_, worker_function job_) : when(std::move(when_)), job(std::move(job_)) {}

  schedule when;
  /// May be empty where workers are a program of their own, which has the job in worker_options::jobs.
  worker_function job;
};

/// What a cluster is to be.
///
///     cohort::cluster_options options;
///     options.listen = {"127.0.0.1:8000"};
///     options.workers = 4;
///     return cohort::serve(options, handler);
///
/// Distinct objects: safe. Shared objects: unsafe.
struct cluster_options {  // a member for each thing that can be said of a cluster
  cluster_options() {}    // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  /// The addresses to listen on. At least one.
  std::vector<listen_address> listen;
  /// How many workers. Default: 0, which is one for each processor that this process may use: see usable_processors().
  unsigned workers = 0;
  /// How connections reach the workers, for the addresses that do not say it themselves.
  cohort::distribution distribution = cohort::distribution::round_robin;
  /// Chooses the worker, at all addresses of distribution::custom.
  cohort::picker picker;
  /// Connections that the kernel keeps for a listener. The kernel cuts this to net.core.somaxconn.
  int backlog = 4096;
  /// Accepts a connection only when its first bytes are there (TCP_DEFER_ACCEPT, tcp(7)). This is cheaper where clients
  /// speak first. Connections whose clients have not spoken when the cluster stops are dropped.
  bool defer_accept = false;
  /// Whether `[::]:PORT` is for IPv6 alone, so that `0.0.0.0:PORT` may stand beside it. Default: as net.ipv6.bindv6only
  /// says (ipv6(7)).
  std::optional<bool> ipv6_only;
  /// The permissions of the files of `unix:` addresses, and whose they are: see socket_rights. Default: those that the
  /// umask leaves, and the primary's own user and group.
  std::optional<mode_t> socket_mode;
  std::string socket_user, socket_group;
  /// Whether serve() reaps processes that it has not started, and that became its children because their parents ended:
  /// see reap_orphans(). Default: only as process number 1, as in a container without an init.
  std::optional<bool> reap_orphans;

  /// How long the cluster goes on accepting after it was told to stop, until the drain begins: as long as load
  /// balancers need to notice. Meanwhile nothing calls the cluster ready any more (cluster_stats::in_service,
  /// worker::in_service(), the service manager). A second wish to stop cuts this short. Default: 0, the drain begins at
  /// once, as it does always when the cluster was never ready, gives up or was upgraded.
  std::chrono::milliseconds lame_duck{0};

  /// How each worker behaves.
  worker_options worker;
  /// When a worker or an agent that ended is started again.
  restart_policy restart;
  /// Called with the slot and the reason when the restart policy gives up on a slot. What it returns is done instead of
  /// restart_policy::on_give_up.
  std::function<give_up_action(unsigned slot, const std::string& why)> on_give_up;
  /// How long a worker may take until it is ready. Then it is killed, which counts as a failed boot.
  std::chrono::milliseconds start_timeout{60'000};
  /// How many workers start at the same time; the others wait. Default: 0, no limit.
  unsigned max_starting = 0;
  /// How long the loop of a worker may not turn before the worker counts as hung. A hung worker gets SIGABRT, 5 s later
  /// SIGKILL, and is replaced. The time is counted in pings while the primary itself runs: a machine that was suspended
  /// and a primary that was stopped make no worker hung. 0: no worker is pinged.
  std::chrono::milliseconds hang_timeout{30'000};
  /// How often the primary pings a worker, which answers with its figures. A quarter of the hang timeout is used if
  /// that is less.
  std::chrono::milliseconds ping_interval{1'000};
  /// When a worker is replaced by a fresh one. It is replaced as in a reload, one worker at a time. Default: never.
  recycle_limits recycle;
  /// How a reload goes.
  reload_options reload;
  /// The program that workers run, which must call run_worker(). Default: the program of this process, with its own
  /// arguments.
  std::optional<command> program;
  /// Who starts the workers of `program` and speaks for them, if they do not speak this library's own protocol: see
  /// node_workers(). Such workers say themselves where to listen, and `listen` must be empty. Default: none.
  dialect_factory dialect;
  /// Called before each start of a worker, with its slot and its command: for an environment, a processor or a limit of
  /// the worker's own.
  std::function<void(unsigned slot, command& program)> on_start;

  /// Who the workers, and the agents without a command of their own, run as, by name or number: see command::user. The
  /// primary keeps its user, root for a low port. Changing users takes privileges; an unknown name is an error before
  /// anything starts. Default: as the primary; for a user without a group, that user's groups.
  std::string user, group;

  /// What the kernel adds, -1000 to 1000, when it looks for a process to kill for want of memory (proc(5)), for workers
  /// and agents: with 500, say, it takes one of them rather than the primary. Default: as the primary has it.
  std::optional<int> oom_score_adj;

  /// Named processes that exist once in the cluster: see agent_options.
  std::vector<agent_options> agents;
  /// Schedules begin when all workers and agents are ready, and end first when the cluster stops. A run that is under
  /// way then is waited for as a connection is.
  std::vector<scheduled_job> schedules;
  /// How the primary keeps messages for slow processes; see messenger.
  delivery_options delivery;
  /// Runs in the primary of serve(), beside the cluster, and is cancelled when the cluster stops: to send and receive
  /// messages, to scale by the load. An exception from it stops the cluster, and serve() returns 1.
  std::function<asio::awaitable<void>(cluster&)> in_primary;
  /// What a worker or an agent may take of the primary.
  process_limits limits;
  /// The path of a unix socket at which serve() answers control_client and cohortctl. See control_server. Default:
  /// none.
  std::string control_socket;
  /// Where serve() answers `/metrics`, `/healthz` and `/readyz`, `127.0.0.1:9100` for instance. See health_server.
  /// Default: nowhere.
  std::string health_address;
  /// The path of a file with the number of the primary, which serve() holds: a second server with the same file does
  /// not start, and in an upgrade the new primary takes it over. See cohort::pid_file. Default: none.
  std::string pid_file;
  /// A group whose members may use the control socket too, by name or number. Default: none.
  std::string control_group;
  /// What serve() does on a signal. For a signal that is not named here, as for cluster_action::none, it does nothing.
  std::map<int, cluster_action> signals = {
      {SIGINT, cluster_action::stop},    {SIGTERM, cluster_action::stop},     {SIGQUIT, cluster_action::kill},
      {SIGHUP, cluster_action::reload},  {SIGTTIN, cluster_action::scale_up}, {SIGTTOU, cluster_action::scale_down},
      {SIGUSR1, cluster_action::reopen}, {SIGUSR2, cluster_action::upgrade},
  };
  /// What the primary does when it is told to open its log files again.
  std::function<void()> on_reopen;
  /// What serve() does with each event, in the primary. Default: error_log::write(to_string(event)). What
  /// it throws is said there, and ends nothing.
  std::function<void(const cluster_event&)> on_event;

  /// `workers`, or the number of processors for 0.
  unsigned worker_count() const noexcept;

  /// `worker`, with the jobs of `schedules` added to its own. Where both have a job of one name, that of `worker`
  /// stays.
  worker_options worker_with_jobs() const;
};

namespace detail {

/// These options with times that timers can count, and with the ping interval that is used.
cluster_options normalized(cluster_options options);

}  // namespace detail
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "options.ipp"
#endif
