// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <system_error>

#include <signal.h>
#include <unistd.h>

#include "../../core/asio.hpp"
#include "../../core/event.hpp"
#include "../../ipc/peer.hpp"
#include "../../process/exit_status.hpp"
#include "../protocol.hpp"

namespace cohort::pool::detail {

struct ignore_progress {
  template <class Progress>
  void operator()(const Progress&) const noexcept {}
};

/// One process of a pool, from its start until it is reaped. Somebody waits for its end all that time, see
/// pool_state::watch.
template <class Job>
class pool_process : public std::enable_shared_from_this<pool_process<Job>> {
 public:
  explicit pool_process(const asio::any_io_executor& executor)
      : ended(executor), released(executor), limit_(executor) {}

  /// Ends the process at once, if it has not ended.
  void kill() noexcept {
    try {
      peer.signal(SIGKILL);
    } catch (const std::system_error&) {
      // It has become another user's, and is beyond our reach.
    }
  }

  /// Kills the process after `limit`, unless the next call of this comes first or it ends.
  void kill_after(std::chrono::milliseconds limit) {
    limit_.expires_after(limit);
    limit_.async_wait([self = this->shared_from_this()](std::error_code error) {
      if (error || self->ended.is_set()) return;
      self->overdue = true;
      self->kill();
    });
  }
  void kill_no_more() { limit_.cancel(); }

  /// What it has resident, in bytes (proc(5), statm); 0 if that cannot be read.
  std::size_t resident() const {
    const std::string path = "/proc/" + std::to_string(peer.pid()) + "/statm";
    std::FILE* const file = std::fopen(path.c_str(), "re");
    if (file == nullptr) return 0;
    unsigned long size = 0, pages = 0;
    const int read = std::fscanf(file, "%lu %lu", &size, &pages);
    std::fclose(file);
    return read == 2 ? pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) : 0;
  }

  cohort::peer<protocol<Job>> peer;
  event ended;  // it has been reaped, with this
  exit_status status;
  std::string unknown;   // why the status is not known, if it is not
  event released;        // no job has it
  std::uint64_t jobs = 0;  // that it was given, and so the number of its order
  bool ready = false;
  bool overdue = false;     // killed because of kill_after()
  bool talks_twice = false;  // killed because of an answer to no open order
  bool reporting = false;   // its progress is being dealt with
  bool has_permit = false;  // to give back when it has ended

 private:
  asio::steady_timer limit_;
};

}  // namespace cohort::pool::detail
