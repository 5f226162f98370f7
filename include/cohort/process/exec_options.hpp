// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include <signal.h>

#include "stop_policy.hpp"

namespace cohort {
namespace detail {
class execution;
}

/// How exec and exec_file run a program.
///
///     cohort::exec_options options;
///     options.input(text).timeout(5s).max_output(16 * 1024 * 1024);
///
/// Distinct objects: safe. Shared objects: unsafe.
class exec_options {
 public:
  exec_options() {}  // no aggregate, which GCC 12 would destroy twice in an await expression (PR101976)

  /// What the program reads; nothing (/dev/null), if not set. What it does not read is dropped.
  exec_options& input(std::string text) {
    input_ = std::move(text);
    return *this;
  }

  /// How long the program and all that writes to its output may take before they are stopped. No limit, if not set.
  exec_options& timeout(std::chrono::milliseconds limit) {
    timeout_ = limit;
    return *this;
  }

  /// What stops the program when its time is over: each signal goes to all of its processes, as child::kill_tree sends
  /// it. SIGTERM, 1 s, SIGKILL, if not set.
  exec_options& stop(stop_policy policy) {
    stop_ = policy;
    return *this;
  }

  /// How much is held of the output and of the error output, each, in bytes. 1 MiB, if not set.
  exec_options& max_output(std::size_t bytes) {
    max_output_ = bytes;
    return *this;
  }

  /// Reads the error output through the same pipe as the output, so that both are in output::out in the order in which
  /// they were written.
  exec_options& merge_errors(bool on = true) {
    merge_errors_ = on;
    return *this;
  }

  /// How long the output is read on after the program has ended and while another process, which it has left in the
  /// background, holds it open. 1 s, if not set; stop_policy::forever until that closes it.
  exec_options& linger(std::chrono::milliseconds time) {
    linger_ = time;
    return *this;
  }

 private:
  friend class detail::execution;

  std::optional<std::string> input_;
  std::optional<std::chrono::milliseconds> timeout_;
  stop_policy stop_{SIGTERM, std::chrono::seconds(1)};
  std::size_t max_output_ = 1024 * 1024;
  std::chrono::milliseconds linger_{1000};
  bool merge_errors_ = false;
};

}  // namespace cohort
