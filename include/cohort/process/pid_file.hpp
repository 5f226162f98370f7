// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/types.h>

#include "../core/descriptor.hpp"
#include "../core/error.hpp"

namespace cohort {
namespace this_process {
class daemon;
}

/// The file with the number of the one process that does a job.
///
/// Whoever finds the file finds it complete. It counts for as long as its process lives, which holds a lock on it: what
/// a process has left behind that was killed is stale, and the next one replaces it, whatever number it holds. Of
/// several that start at the same time exactly one succeeds.
///
/// Locks are those of fcntl_locking(2) for open file descriptions, Linux 3.15; the directory must be on a file system
/// of this machine. Distinct objects: safe. Shared objects: unsafe.
class pid_file {
 public:
  /// No file.
  pid_file() = default;

  /// Makes the file, readable by all, for this process. Does not wait.
  ///
  /// Throws errc::already_running with the number of the process that has it, `pid file "/run/x.pid", pid 4711:
  /// already running`, or the errno of what has failed; then nothing has changed.
  explicit pid_file(const std::string& path) : pid_file(path, "pid file") {}

  pid_file(pid_file&& other) noexcept
      : path_(std::move(other.path_)), file_(std::move(other.file_)), owner_(std::exchange(other.owner_, 0)) {}

  pid_file& operator=(pid_file&& other) noexcept;

  ~pid_file() { remove(); }

  /// Whether there is a file.
  explicit operator bool() const noexcept { return owner_ != 0; }

  /// Where it is; absolute, so that it can be removed after a change of directory.
  const std::string& path() const noexcept { return path_; }

  /// Removes the file, unless it is another one by now. Does nothing in a process that was forked off the owner.
  void remove() noexcept;

  /// The process that has the file at `path`; none if there is no file, or a stale one. Takes nothing and waits for
  /// nothing. Throws an errno if the file cannot be read.
  ///
  /// To signal that process, open its pidfd and then ask again: only if it still has the file, the pidfd is its own.
  static std::optional<pid_t> owner(const std::string& path);

 private:
  friend class this_process::daemon;

  // Byte 0 is locked by the process that the file names, from before the file has its name until the process ends.
  // Byte 1 is locked by those who replace a stale file, one after the other. So a look at byte 0 never takes somebody
  // for the owner who is about to become it.
  enum byte : off_t { life, replacement };

  pid_file(const std::string& path, std::string_view who);

  // A complete file waits for its name under one that nobody else uses.
  struct temporary {
    temporary(const std::string& path, const std::string& what);
    temporary(const temporary&) = delete;
    ~temporary();

    std::string name;
    descriptor file;
  };

  // False if the file that was in the way has changed meanwhile.
  bool put_in_place(const temporary& made, const std::string& what) const;

  static std::string step(std::string_view who, const std::string& path);

  static struct flock range(byte which) noexcept;

  static bool lock(int fd, byte which, int command) noexcept;

  // 0 for one that the file does not name.
  static std::optional<pid_t> owner_of(int fd) noexcept;

  static bool is_at(const std::string& path, int fd) noexcept;

  std::string path_;
  descriptor file_;
  pid_t owner_ = 0;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "pid_file.ipp"
#endif
