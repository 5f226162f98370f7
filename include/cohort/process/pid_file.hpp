// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "../core/descriptor.hpp"
#include "../core/error.hpp"
#include "../core/system.hpp"

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

  pid_file& operator=(pid_file&& other) noexcept {
    if (this != &other) {
      remove();
      path_ = std::move(other.path_);
      file_ = std::move(other.file_);
      owner_ = std::exchange(other.owner_, 0);
    }
    return *this;
  }

  ~pid_file() { remove(); }

  /// Whether there is a file.
  explicit operator bool() const noexcept { return owner_ != 0; }

  /// Where it is; absolute, so that it can be removed after a change of directory.
  const std::string& path() const noexcept { return path_; }

  /// Removes the file, unless it is another one by now. Does nothing in a process that was forked off the owner.
  void remove() noexcept {
    // While the lock is held, so that nobody else can be replacing the file.
    if (owner_ != 0 && owner_ == ::getpid() && is_at(path_, file_.get())) ::unlink(path_.c_str());
    file_.reset();
    owner_ = 0;
  }

  /// The process that has the file at `path`; none if there is no file, or a stale one. Takes nothing and waits for
  /// nothing. Throws an errno if the file cannot be read.
  ///
  /// To signal that process, open its pidfd and then ask again: only if it still has the file, the pidfd is its own.
  static std::optional<pid_t> owner(const std::string& path) {
    const descriptor file(system::retry(system::call.open, path.c_str(), O_RDONLY | O_CLOEXEC, mode_t(0)));
    if (!file && errno == ENOENT) return std::nullopt;
    if (!file) throw_error(step("pid file", path), errno);
    return owner_of(file.get());
  }

 private:
  friend class this_process::daemon;

  // Byte 0 is locked by the process that the file names, from before the file has its name until the process ends.
  // Byte 1 is locked by those who replace a stale file, one after the other. So a look at byte 0 never takes somebody
  // for the owner who is about to become it.
  enum byte : off_t { life, replacement };

  pid_file(const std::string& path, std::string_view who) {
    const auto what = step(who, path);
    if (path.empty() || path.find('\0') != path.npos) throw_error(what, errc::invalid_option);
    std::error_code error;
    path_ = std::filesystem::absolute(path, error).string();
    if (error) throw_error(what, error);

    temporary made(path_, what);
    const auto number = fmt::format("{}\n", ::getpid());
    const auto written = system::retry(system::call.write, made.file.get(), number.data(), number.size());
    if (written != static_cast<ssize_t>(number.size())) throw_error(what, written < 0 ? errno : ENOSPC);
    if (::fchmod(made.file.get(), 0644) == -1) throw_error(what, errno);
    if (!lock(made.file.get(), life, F_OFD_SETLK)) throw_error(what, errno);
    while (!put_in_place(made, what)) {
    }
    file_ = std::move(made.file);
    owner_ = ::getpid();
  }

  // A complete file waits for its name under one that nobody else uses.
  struct temporary {
    temporary(const std::string& path, const std::string& what) : name(path + ".XXXXXX") {
      file.reset(::mkostemp(name.data(), O_CLOEXEC));
      if (!file) throw_error(what, errno);
    }
    temporary(const temporary&) = delete;
    ~temporary() {
      if (file) ::unlink(name.c_str());
    }

    std::string name;
    descriptor file;
  };

  // False if the file that was in the way has changed meanwhile.
  bool put_in_place(const temporary& made, const std::string& what) const {
    if (::renameat2(AT_FDCWD, made.name.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE) == 0) return true;
    if (errno != EEXIST) throw_error(what, errno);

    const descriptor before(system::retry(system::call.open, path_.c_str(), O_RDWR | O_CLOEXEC, mode_t(0)));
    if (!before && errno == ENOENT) return false;
    if (!before) throw_error(what, errno);
    if (const auto other = owner_of(before.get())) {
      throw_error(fmt::format("{}, pid {}", what, *other), errc::already_running);
    }
    if (!lock(before.get(), replacement, F_OFD_SETLKW)) throw_error(what, errno);
    if (!is_at(path_, before.get())) return false;
    if (::rename(made.name.c_str(), path_.c_str()) == -1) throw_error(what, errno);
    return true;
  }

  static std::string step(std::string_view who, const std::string& path) {
    return fmt::format("{} \"{}\"", who, path.c_str());
  }

  static struct flock range(byte which) noexcept {
    struct flock range = {};
    range.l_type = F_WRLCK;
    range.l_whence = SEEK_SET;
    range.l_start = which;
    range.l_len = 1;
    return range;
  }

  static bool lock(int fd, byte which, int command) noexcept {
    auto wanted = range(which);
    return system::retry([&] { return ::fcntl(fd, command, &wanted); }) == 0;
  }

  // 0 for one that the file does not name.
  static std::optional<pid_t> owner_of(int fd) noexcept {
    auto held = range(life);
    if (::fcntl(fd, F_OFD_GETLK, &held) == -1 || held.l_type == F_UNLCK) return std::nullopt;
    char text[16];
    const auto size = ::pread(fd, text, sizeof text, 0);
    pid_t pid = 0;
    std::from_chars(text, text + (size > 0 ? size : 0), pid);
    return pid;
  }

  static bool is_at(const std::string& path, int fd) noexcept {
    struct stat there = {};
    struct stat here = {};
    return ::stat(path.c_str(), &there) == 0 && ::fstat(fd, &here) == 0 && there.st_dev == here.st_dev &&
           there.st_ino == here.st_ino;
  }

  std::string path_;
  descriptor file_;
  pid_t owner_ = 0;
};

}  // namespace cohort
