// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <type_traits>

#include "../worker/connection_handler.hpp"
#include "../worker/worker.hpp"
#include "options.hpp"

namespace cohort {

/// The whole of a clustered server: call it from main and return what it returns.
///
/// The same program is primary and worker. Started by a user it is the primary: it listens, starts itself again for
/// each worker with the same arguments, and runs until INT or TERM (graceful; one that comes a second or more later, or
/// QUIT: at once); of other signals see cluster_action. Started by the primary it serves connections with `handler`, as
/// run_worker does. Do what both need before the call.
///
/// Returns the exit status: 0 after a stop that was asked for; 1 if a worker had to be killed for that, if it could not
/// start (said on stderr) or gave up.
///
/// A service manager that has set NOTIFY_SOCKET, as systemd does for Type=notify, is told when all workers are ready,
/// when the cluster reloads and stops, in one line how many serve, and within its WatchdogSec= that the primary is
/// well: see sd_notifier.
int serve(cluster_options options, connection_handler handler);

template <class Handler>
  requires(!std::is_convertible_v<Handler, connection_handler>)
int serve(const cluster_options&, Handler&&) {
  detail::refuse_handler<std::decay_t<Handler>>();
  return 1;
}

/// The same where workers are a program of their own, cluster_options::program, and this one is the primary alone.
int serve(cluster_options options);

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "serve.ipp"
#endif
