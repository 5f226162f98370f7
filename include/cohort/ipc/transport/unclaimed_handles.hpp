// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <vector>

#include <sys/socket.h>

#include "../../core/descriptor.hpp"

namespace cohort::detail {

/// Descriptors that have been read from a channel's socket and that no frame has taken yet. They come with the first
/// byte of the frame that announces them. What no correct peer sends throws errc::malformed.
///
/// Distinct objects: safe. Shared objects: unsafe.
class unclaimed_handles {
 public:
  /// Takes those that came with what recvmsg(2) has read; false if there are none.
  bool take_from(msghdr& message);

  /// How many times some came that no frame has announced.
  std::size_t unannounced() const noexcept { return batches_.size(); }

  /// The first ones that are unannounced must be so many. The kernel may have lost some, which are none then.
  void announce(std::size_t count);

  /// The next one that has been announced.
  descriptor next();

  /// The memory of a ring, which came with the frame, alone and without an announcement.
  descriptor ring();

  /// Closes them all.
  void clear() noexcept {
    batches_.clear();
    announced_.clear();
  }

 private:
  struct batch {
    std::vector<descriptor> handles;
    bool truncated = false;
  };

  [[noreturn]] static void malformed(const std::string& what);

  std::deque<batch> batches_;
  std::deque<descriptor> announced_;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "unclaimed_handles.ipp"
#endif
