// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../../core/asio.hpp"
#include "../events.hpp"

namespace cohort {

class cluster;

namespace detail {
class control_sessions;
}

/// The control socket of a cluster: lets control_client look at it and tell it what to do. serve() has one if
/// cluster_options::control_socket names its path.
///
/// The file has the mode 0600 from its beginning on. Root is served, and the user that this process is (effectively),
/// as the kernel tells it (SO_PEERCRED, unix(7)); others are told so and disconnected. With a group, the file is this
/// group's, has the mode 0660, and the kernel lets the group's members in, too. So is disconnected a client that does
/// not behave, by anything that is not a call, or as a follower by not reading. No client holds up the cluster: 16
/// clients at a time are served, of which the one that has asked nothing for the longest time makes room for another
/// one; 8 reloads and upgrades may wait, a follower may be 256 events behind, and 1024 workers are the most.
///
/// Must outlive run(), and the cluster must outlive this. Distinct objects: safe. Shared objects: unsafe, also with the
/// cluster.
class control_server {
 public:
  using variables = std::vector<std::pair<std::string, std::string>>;

  static constexpr std::size_t max_clients = 16;      ///< at the same time; further ones are refused
  static constexpr std::size_t max_behind = 256;      ///< events that a follower may be behind
  static constexpr std::size_t max_reloads = 8;       ///< and upgrades that may wait for each other; others are refused
  static constexpr std::uint32_t max_workers = 1024;  ///< that it can be scaled to: a slip should not take the machine

  /// Binds and listens; see control_protocol::endpoint_of. Replaces a file that nobody accepts at, and throws `listen
  /// unix:/run/app.ctl: Address already in use` and its like, errc::invalid_option for an abstract name with a group.
  /// `environment` is what cluster::upgrade() is called with; `group`: a name or a number.
  control_server(cluster& primary, const std::string& path, variables environment = {}, std::string group = {});

  ~control_server();

  control_server(const control_server&) = delete;
  control_server& operator=(const control_server&) = delete;

  /// Tells the followers of an event. cluster::next_event() gives each to one reader: who reads there calls this.
  void note(const cluster_event& event);

  /// Serves clients until stop() is called. Call it once.
  ///
  /// Throws if nothing can be accepted any more. Cancelling disconnects all at once and throws operation_aborted. What
  /// clients have told the cluster to do goes on, but for reloads and upgrades.
  asio::awaitable<void> run();

  /// Binds anew if the file is not there any more, or is another one: somebody has cleaned up. Clients that are
  /// connected stay so. Throws as the constructor.
  void look();

  /// Ends it: removes the file, tells the followers what they have not heard and lets the answers under way go out, for
  /// a second at most. Call it when all events have been noted.
  void stop();

 private:
  std::unique_ptr<detail::control_sessions> sessions_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "server.ipp"
#endif
