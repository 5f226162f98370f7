// SPDX-License-Identifier: BSL-1.0
/// Which worker a connection goes to, where the primary accepts.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include <sys/types.h>

namespace cohort {

class any_handle;

/// A worker that a connection may go to. Those that have reached worker_options::max_connections are not among them.
struct candidate {
  unsigned slot;  ///< unique among those that are offered together
  pid_t pid;
  std::size_t open;       ///< connections that it has been given and that have not ended, as far as it has said
  std::size_t in_flight;  ///< those of them that it has not yet taken
  std::size_t place;      ///< the distributor's own
};

/// Chooses for a connection: returns an index into `among`, which is not empty. Called in the primary for each
/// connection, and again if the chosen one does not take it, so it must be quick; it must not throw.
///
/// `connection` is the accepted socket, to be looked at and not to be read from: getpeername(2), SO_PEERCRED.
using picker = std::function<std::size_t(const any_handle& connection, std::span<const candidate> among)>;

}  // namespace cohort
