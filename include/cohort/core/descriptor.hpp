// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <utility>

#include <unistd.h>

namespace cohort {

/// Owns one file descriptor and closes it.
///
/// Close an Asio object by handing its descriptor over (`descriptor(socket.release())`) when another process may hold
/// the same open file: release() takes it out of epoll, where it would else stay and report events for a dead object.
///
/// Distinct objects: safe. Shared objects: unsafe.
class descriptor {
 public:
  descriptor() = default;

  /// Takes ownership of `fd`; -1 stands for none.
  explicit descriptor(int fd) noexcept : fd_(fd) {}

  descriptor(descriptor&& other) noexcept : fd_(other.release()) {}

  descriptor& operator=(descriptor&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }

  ~descriptor() { reset(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

  /// Gives the descriptor away; the caller closes it.
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

  /// Closes what is held and takes `fd`.
  void reset(int fd = -1) noexcept {
    // Not repeated on EINTR: Linux has freed the number by then, and another thread may own it already (close(2)).
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace cohort
