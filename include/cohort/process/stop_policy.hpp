// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <span>

#include <signal.h>

#include <fmt/format.h>

#include "../core/error.hpp"

namespace cohort {

/// How a child is stopped: up to three signals, each with the time that the child has to end before the next one, and
/// then SIGKILL, which it cannot refuse.
///
///     stop_policy()                               // SIGTERM, 10 s, SIGKILL
///     stop_policy(SIGINT, 2s).then(SIGTERM, 5s)   // SIGINT, 2 s, SIGTERM, 5 s, SIGKILL
///     stop_policy::kill()                         // SIGKILL at once
///
/// A grace below zero is zero, and one that is longer than a timer can count is as good as forever. Signal 0 sends
/// nothing and only waits. Distinct objects: safe. Shared objects: unsafe.
class stop_policy {
 public:
  /// A signal, and how long the child may go on after it.
  struct step {
    int signal = 0;
    std::chrono::milliseconds grace{0};
  };

  /// As grace: waits until the child ends, however long that takes.
  static constexpr std::chrono::milliseconds forever = std::chrono::milliseconds::max();

  stop_policy() : stop_policy(SIGTERM, std::chrono::seconds(10)) {}

  stop_policy(int signal, std::chrono::milliseconds grace) { then(signal, grace); }

  static stop_policy kill() {
    stop_policy policy;
    policy.count_ = 0;
    return policy;
  }

  /// Adds a step. Throws errc::invalid_option for a fourth one.
  stop_policy& then(int signal, std::chrono::milliseconds grace) {
    if (count_ == steps_.size()) throw_error(fmt::format("stop_policy: a step after {}", count_), errc::invalid_option);
    steps_[count_].signal = signal;
    steps_[count_].grace = grace;
    ++count_;
    return *this;
  }

  /// The steps before SIGKILL.
  std::span<const step> steps() const noexcept { return std::span<const step>(steps_.data(), count_); }

 private:
  std::array<step, 3> steps_;
  std::size_t count_ = 0;
};

}  // namespace cohort
