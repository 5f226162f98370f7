// SPDX-License-Identifier: BSL-1.0
/// The ways from a listener to the workers.
#pragma once

#include <string_view>

namespace cohort {

/// How the connections of a listener reach the workers.
enum class distribution {
  /// The primary accepts and leases each socket to the next worker in turn. One that a worker has not taken when it
  /// dies or refuses goes to another. What nobody has room for waits in the kernel's queue.
  round_robin,
  /// As round_robin, but to the worker that has the fewest connections, of several in turn.
  least_connections,
  /// As round_robin, but each client address to a worker of its own, for as long as this worker lives and has not
  /// reached worker_options::max_connections; its replacement inherits it. Unix sockets have no such address: in turn.
  by_address,
  /// As round_robin, but to the worker that the user's own picker chooses: cluster_options::picker.
  custom,
  /// All workers accept on the same listener: no hop through the primary, and no say in who gets how many.
  shared,
  /// A listener a slot (SO_REUSEPORT, socket(7)): the kernel spreads connections by their addresses. The primary makes
  /// and keeps them all, and lends that of a slot without a worker to another one. An address that somebody listens on
  /// already is refused, even if the kernel would let this user share it. Unix sockets, which have nothing like it, are
  /// shared; of inherited sockets there must be one for each worker.
  reuse_port,
};

std::string_view to_string(distribution how) noexcept;

/// The distribution of this name. Throws errc::invalid_option if there is none.
distribution parse_distribution(std::string_view name);

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "distribution.ipp"
#endif
