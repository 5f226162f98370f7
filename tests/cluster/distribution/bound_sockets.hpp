// SPDX-License-Identifier: BSL-1.0
/// Which processes hold the sockets of a port, as /proc shows it: so a test can wait until the primary has given its
/// listeners to the workers that should have them, instead of waiting for a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <system_error>

#include <unistd.h>

#include "../running.hpp"

namespace cohort::test {

using inodes = std::set<std::string>;

/// The sockets that wait for clients at a local port: of `tcp` those that listen, of `udp` those without a peer
/// (proc(5), /proc/net).
inline inodes sockets_at(std::uint16_t port, const std::string& protocol) {
  const std::string listens = protocol == "tcp" ? "0A" : "07";
  inodes found;
  std::ifstream table("/proc/net/" + protocol);
  std::string line;
  std::getline(table, line);  // the heads of the columns
  while (std::getline(table, line)) {
    std::istringstream columns(line);
    std::string number, local, remote, state, queues, timer, retries, user, timeout, inode;
    columns >> number >> local >> remote >> state >> queues >> timer >> retries >> user >> timeout >> inode;
    const auto colon = local.find(':');
    if (colon == std::string::npos || state != listens) continue;
    if (std::stoul(local.substr(colon + 1), nullptr, 16) == port) found.insert(inode);
  }
  return found;
}

/// Those of some sockets that a process has open.
inline inodes held_by(pid_t pid, const inodes& sockets) {
  inodes found;
  std::error_code gone;
  const std::filesystem::directory_iterator all("/proc/" + std::to_string(pid) + "/fd", gone), end;
  for (auto at = all; !gone && at != end; at.increment(gone)) {
    std::error_code closed;
    const auto target = std::filesystem::read_symlink(at->path(), closed).string();
    if (closed || !target.starts_with("socket:[")) continue;
    const auto inode = target.substr(8, target.size() - 9);
    if (sockets.contains(inode)) found.insert(inode);
  }
  return found;
}

/// Whether all workers serve, and hold together all sockets of the port: with `each_its_own` none holds another's.
inline bool is_settled(const running& c, std::uint16_t port, const std::string& protocol, bool each_its_own) {
  const auto all = sockets_at(port, protocol);
  const auto stats = c.primary.stats();
  if (stats.workers.size() != stats.wanted) return false;
  inodes held;
  for (const auto& each : stats.workers) {
    if (each.state != worker_state::ready) return false;
    const auto mine = held_by(each.pid, all);
    if (mine.empty()) return false;
    for (const auto& inode : mine) {
      const bool fresh = held.insert(inode).second;
      if (!fresh && each_its_own) return false;
    }
  }
  return held == all;
}

}  // namespace cohort::test
