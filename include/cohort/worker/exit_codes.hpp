// SPDX-License-Identifier: BSL-1.0
/// The exit status of a worker: the worker decides on it, the primary reads it.
#pragma once

namespace cohort {

/// With what status a worker exits. Decided once; of several reasons the one that stands first here wins.
enum class worker_exit : int {
  fatal = 1,            ///< an exception that is not a connection's own
  do_not_restart = 78,  ///< worker::do_not_restart(): EX_CONFIG of sysexits.h
  orphaned = 110,       ///< the parent is gone
  asked = 0,            ///< the parent or SIGTERM asked for it
};

}  // namespace cohort
