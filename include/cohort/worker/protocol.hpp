// SPDX-License-Identifier: BSL-1.0
/// What a cluster's primary and its workers say to each other.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "../messaging/delivery.hpp"

namespace cohort {

/// Both directions of it, for spawn<worker_protocol>() and parent<worker_protocol>().
struct worker_protocol {
  /// With an acceptor: accept on it. `grant` is different each time that a listener is given to somebody.
  struct listen {
    std::uint32_t listener = 0;
    std::uint32_t grant = 0;
  };

  /// Close the copy that came with that grant; somebody else accepts there now. Overtaken by a later grant of the same
  /// listener, which handles may do, it leaves that one alone.
  struct unlisten {
    std::uint32_t listener = 0;
    std::uint32_t grant = 0;
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

  /// Answer with a pong: are you still there?
  struct ping {
    std::uint64_t number = 0;
  };

  /// Open the log files again: they have been moved away.
  struct reopen {};

  /// Say from now on how many of the connections given by `serve` have ended, see `ended`.
  struct count_connections {};

  /// All agents and workers are ready, or have been once.
  struct all_ready {};

  /// The cluster stops soon. Clients should go elsewhere; go on serving until `drain`.
  struct leaving {};

  /// A call: do the job of the schedule of that name, and answer with `job_result` when it has ended.
  struct start_job {
    std::string schedule;
  };

  /// With one end of a channel: messages that `from` sends come there, as from the primary.
  struct connect_offer {
    member from;
  };

  /// The worker is set up: it serves.
  struct ready {};

  /// The answer to `start_job`.
  struct job_result {
    bool refused = false;             ///< the worker is on its way out and has not begun with it
    std::optional<std::string> what;  ///< the text of what the job has thrown
  };

  /// Something went wrong that the worker lives on with.
  struct failed {
    std::string what;
  };

  /// With one end of a channel: give it to that process (a recipient::kind and what belongs to it), with
  /// `connect_offer`.
  struct connect_request {
    std::uint8_t to = 0;
    std::int64_t number = 0;
    std::string name;
  };

  /// The worker accepts no more and will exit, with this status unless worse happens (see worker_exit).
  struct draining {
    std::int32_t status = 0;
    std::string reason;
  };

  /// The answer to a ping, and how the worker is.
  struct pong {
    std::uint64_t number = 0;  ///< of the ping
    std::uint64_t served = 0;  ///< connections that have ended
    std::uint32_t open = 0;    ///< connections being served
    std::uint64_t memory = 0;  ///< resident, in bytes
  };

  /// How many of the connections given by `serve` have ended since the worker started. Said soon after each change, not
  /// for each connection.
  struct ended {
    std::uint64_t connections = 0;
  };

  /// How much a process has counted under a name since it was started, see worker::counter(). Said before a pong, where
  /// it is another number than before.
  struct counted {
    std::string name;
    std::uint64_t value = 0;
  };

  using to_child = std::variant<listen, unlisten, serve, drain, ping, reopen, count_connections, all_ready,
                                routed_message, receipt, start_job, connect_offer, leaving>;
  using to_parent =
      std::variant<ready, draining, pong, ended, failed, routed_message, receipt, job_result, connect_request, counted>;
};

}  // namespace cohort
