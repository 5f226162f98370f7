// SPDX-License-Identifier: BSL-1.0
/// What a cluster's primary and its workers say to each other.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

namespace cohort::control {

/// With an acceptor: accept on it. `loan` is different each time that a listener is given to somebody.
struct listen {
  std::uint32_t listener = 0;
  std::uint32_t loan = 0;
};

/// Close the copy that came with that loan; somebody else accepts there now. Overtaken by a later loan of the same
/// listener, which handles may do, it leaves that one alone.
struct unlisten {
  std::uint32_t listener = 0;
  std::uint32_t loan = 0;
};

/// With an accepted socket: serve it.
struct serve {
  std::uint32_t listener = 0;
};

/// Stop accepting, finish, exit.
struct drain {
  /// Nobody will accept after you: take what waits in the listeners' queues before you close them.
  bool empty_queues = false;
};

/// The worker is set up: it serves.
struct ready {};

/// The worker accepts no more and will exit, with this status unless worse happens (see worker_exit).
struct draining {
  std::int32_t status = 0;
  std::string reason;
};

struct protocol {
  using to_child = std::variant<listen, unlisten, serve, drain>;
  using to_parent = std::variant<ready, draining>;
};

}  // namespace cohort::control
