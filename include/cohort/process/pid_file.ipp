// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pid_file.hpp"

#include "../core/config.hpp"

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/system.hpp"

namespace cohort {

COHORT_INLINE pid_file& pid_file::operator=(pid_file&& other) noexcept {
  if (this != &other) {
    remove();
    path_ = std::move(other.path_);
    file_ = std::move(other.file_);
    owner_ = std::exchange(other.owner_, 0);
  }
  return *this;
}

COHORT_INLINE void pid_file::remove() noexcept {
  // While the lock is held, so that nobody else can be replacing the file.
  if (owner_ != 0 && owner_ == ::getpid() && is_at(path_, file_.get())) ::unlink(path_.c_str());
  file_.reset();
  owner_ = 0;
}

COHORT_INLINE std::optional<pid_t> pid_file::owner(const std::string& path) {
  const descriptor file(system::retry(system::call.open, path.c_str(), O_RDONLY | O_CLOEXEC, mode_t(0)));
  if (!file && errno == ENOENT) return std::nullopt;
  if (!file) throw_error(step("pid file", path), errno);
  return owner_of(file.get());
}

COHORT_INLINE pid_file::pid_file(const std::string& path, std::string_view who) {
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

COHORT_INLINE pid_file::temporary::temporary(const std::string& path, const std::string& what)
    : name(path + ".XXXXXX") {
  file.reset(::mkostemp(name.data(), O_CLOEXEC));
  if (!file) throw_error(what, errno);
}

COHORT_INLINE pid_file::temporary::~temporary() {
  if (file) ::unlink(name.c_str());
}

COHORT_INLINE bool pid_file::put_in_place(const temporary& made, const std::string& what) const {
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

COHORT_INLINE std::string pid_file::step(std::string_view who, const std::string& path) {
  return fmt::format("{} \"{}\"", who, path.c_str());
}

COHORT_INLINE struct flock pid_file::range(byte which) noexcept {
  struct flock range = {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = which;
  range.l_len = 1;
  return range;
}

COHORT_INLINE bool pid_file::lock(int fd, byte which, int command) noexcept {
  auto wanted = range(which);
  return system::retry([&] { return ::fcntl(fd, command, &wanted); }) == 0;
}

COHORT_INLINE std::optional<pid_t> pid_file::owner_of(int fd) noexcept {
  auto held = range(life);
  if (::fcntl(fd, F_OFD_GETLK, &held) == -1 || held.l_type == F_UNLCK) return std::nullopt;
  char text[16];
  const auto size = ::pread(fd, text, sizeof text, 0);
  pid_t pid = 0;
  std::from_chars(text, text + (size > 0 ? size : 0), pid);
  return pid;
}

COHORT_INLINE bool pid_file::is_at(const std::string& path, int fd) noexcept {
  struct stat there = {};
  struct stat here = {};
  return ::stat(path.c_str(), &there) == 0 && ::fstat(fd, &here) == 0 && there.st_dev == here.st_dev &&
         there.st_ino == here.st_ino;
}

}  // namespace cohort
