// SPDX-License-Identifier: BSL-1.0
/// Processes that are not this one's children: children of its children.
#pragma once

#include <cerrno>
#include <fstream>
#include <set>
#include <string>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/types.h>

#include "../../include/cohort/core/descriptor.hpp"
#include "../../include/cohort/core/system.hpp"
#include "../../include/cohort/process/detail/process_tree.hpp"
#include "../support/harness.hpp"

namespace cohort::test {

/// A process that runs by now, held by its pidfd so that its number cannot come to mean another one.
class process {
 public:
  explicit process(pid_t pid) : pid_(pid), pidfd_(system::calls().pidfd_open(pid)) {}

  pid_t pid() const noexcept { return pid_; }

  /// Whether it has not ended.
  bool runs() const {
    pollfd ended{pidfd_.get(), POLLIN, 0};
    return pidfd_ && ::poll(&ended, 1, 0) == 0;
  }

  asio::awaitable<bool> ends() const {
    co_return co_await eventually([this] { return !runs(); });
  }

  /// As /proc shows it: 'T' if it is stopped.
  char state() const {
    std::ifstream file("/proc/" + std::to_string(pid_) + "/stat");
    std::string line;
    std::getline(file, line);
    const auto name_end = line.rfind(')');
    return name_end == line.npos ? '-' : line[name_end + 2];
  }

  void kill() const { system::calls().pidfd_send_signal(pidfd_.get(), SIGKILL); }

 private:
  pid_t pid_;
  descriptor pidfd_;
};

/// Those that live in a process group, whoever their parents are.
inline std::set<pid_t> members_of(pid_t group) {
  std::set<pid_t> found;
  for (const auto& each : detail::read_processes("/proc")) {
    if (each.group == group && each.state != 'Z' && each.state != 'X') found.insert(each.pid);
  }
  return found;
}

}  // namespace cohort::test
