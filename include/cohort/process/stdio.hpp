// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <memory>
#include <string>
#include <utility>

#include <fcntl.h>

#include "../core/config.hpp"
#include "../core/descriptor.hpp"

namespace cohort {
namespace detail {
class connections;
}

/// What a descriptor of a child is connected to. Default: `inherit` for 0, 1 and 2, and closed for all others.
///
///     stdio::inherit                  the parent's descriptor of that number
///     stdio::pipe                     a pipe to the parent: child::in(), out(), err()
///     stdio::null                     /dev/null
///     stdio::from_file("in.txt")      a file to read from
///     stdio::to_file("out.txt")       a file to write to, emptied first
///     stdio::append_to_file("log")    a file to add to
///     stdio::same_as(1)               what another descriptor of the child is connected to: 2>&1
///     stdio::borrow(fd)               a descriptor of this process, which stays open here
///     a cohort::descriptor            one that the command owns
///
/// exec() and exec_file() have defaults of their own.
///
/// Copyable, because a command may be started again and again. Distinct objects: safe. Shared objects: unsafe.
class stdio {
 public:
  enum choice {
    inherit,  ///< the parent's descriptor of the same number; 0, 1 and 2 stay closed where they are closed there
    pipe,     ///< a pipe to the parent, for 0, 1 and 2 only: child::in(), out(), err()
    null,     ///< /dev/null, for reading and writing
  };

  stdio(choice chosen) : kind_(static_cast<kind>(chosen)) {}

  /// The given descriptor. The parent's copy is closed when the last copy of the command is gone, so one that must
  /// reach its end (a pipe) belongs into a command that is not kept.
  stdio(descriptor owned);

  /// The given descriptor, which stays the caller's and must be open when spawn is called.
  static stdio borrow(int fd);

  /// A file to read from, opened by the parent at each spawn: with the rights of the parent, and a relative path starts
  /// at the parent's directory.
  static stdio from_file(std::string path) { return stdio(std::move(path), O_RDONLY); }

  /// A file to write to, emptied first; made with mode 0666 less the umask if there is none.
  static stdio to_file(std::string path) { return stdio(std::move(path), O_WRONLY | O_CREAT | O_TRUNC); }

  /// A file to add to; made with mode 0666 less the umask if there is none.
  static stdio append_to_file(std::string path) { return stdio(std::move(path), O_WRONLY | O_CREAT | O_APPEND); }

  /// What another descriptor of the child is connected to, the very same open file: `err(stdio::same_as(1))` is the
  /// shell's `2>&1`, whichever of the two is set first. The other one may be the same as a third; it must be 0, 1, 2 or
  /// set in the command.
  static stdio same_as(int number);

 private:
  friend class detail::connections;

  enum class kind { inherit = stdio::inherit, pipe = stdio::pipe, null = stdio::null, file, number, same };

  explicit stdio(kind what) : kind_(what) {}
  stdio(std::string path, int flags) : kind_(kind::file), path_(std::move(path)), flags_(flags) {}

  kind kind_;
  std::shared_ptr<descriptor> owned_;
  int number_ = -1;
  std::string path_;
  int flags_ = 0;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "stdio.ipp"
#endif
