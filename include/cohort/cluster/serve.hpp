// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <exception>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "../core/asio.hpp"
#include "../core/error.hpp"
#include "../core/task_group.hpp"
#include "../worker/connection_handler.hpp"
#include "control/server.hpp"
#include "cluster.hpp"
#include "events.hpp"
#include "options.hpp"
#include "service/status_reporter.hpp"

namespace cohort {
namespace detail {

asio::awaitable<void> reload(cluster& primary, std::string why);

asio::awaitable<void> upgrade_primary(cluster& primary, const status_reporter& service);

/// Has one worker more or less; what keeps it from that is said on stderr.
void scale_by(cluster& primary, int difference);

/// Does what the options say to signals, until it is cancelled.
asio::awaitable<void> handle_signals(cluster& primary, std::map<int, cluster_action> actions,
                                          const status_reporter& service, task_group& tasks);

asio::awaitable<void> report(cluster& primary, std::function<void(const cluster_event&)> to,
                                    std::exception_ptr& failure);

/// An address whose connections the handler does not take would make every worker fail.
void check_handler(const cluster_options& options, const connection_handler& handler);

/// The cluster goes on without its control socket.
void say_broken(std::exception_ptr broken);

/// Opens the control socket of a primary that takes over, as soon as the one before it has let go of it.
asio::awaitable<void> succeed_control(cluster& primary, std::string path, const status_reporter& service,
                                             std::optional<control_server>& control);

int run_primary(cluster_options options);

}  // namespace detail

/// The whole of a clustered server: call it from main and return what it returns.
///
/// The same program is primary and worker. Started by a user it is the primary: it listens, starts itself again for
/// each worker with the same arguments, and runs until INT or TERM (graceful; a second one, or QUIT: at once); of other
/// signals see cluster_action. Started by the primary it serves connections with `handler`, as run_worker does. Do what
/// both need before the call.
///
/// Returns the exit status: 0 after a stop that was asked for, 1 if it could not start (said on stderr) or gave up.
///
/// A service manager that has set NOTIFY_SOCKET, as systemd does for Type=notify, is told when all workers are ready,
/// when the cluster reloads and stops, in one line how many serve, and within its WatchdogSec= that the primary is
/// well: see sd_notifier.
int serve(cluster_options options, connection_handler handler);

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "serve.ipp"
#endif
