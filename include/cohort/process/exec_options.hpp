// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

#include <signal.h>

#include "stop_policy.hpp"

namespace cohort {

/// How exec and exec_file run a program.
///
///     cohort::exec_options options;
///     options.input = text;
///     options.timeout = 5s;
///     options.max_output = 16 * 1024 * 1024;
///
/// Distinct objects: safe. Shared objects: unsafe.
struct exec_options {
  exec_options() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  /// What the program reads. What the program does not read is dropped. Default: nothing (/dev/null).
  std::optional<std::string> input;
  /// How long the program and all processes that write to its output may take before they are stopped. Default: no
  /// limit. 0 (or less) stops the program as soon as it has been started; one that is longer than a timer can count is
  /// as good as none.
  std::optional<std::chrono::milliseconds> timeout;
  /// What stops the program when its time is over. Each signal goes to all of its processes, as child::kill_tree sends
  /// it. Default: SIGTERM, 1 s, SIGKILL.
  stop_policy stop{SIGTERM, std::chrono::seconds(1)};
  /// How many bytes are held of the output, and of the error output. Default: 1 MiB each.
  std::size_t max_output = 1024 * 1024;
  /// Reads the error output through the same pipe as the output, so that output::out has both in the order in which
  /// they were written.
  bool merge_errors = false;
  /// How long the output is read on after the program has ended, while a process that the program left in the
  /// background holds it open. stop_policy::forever: until that process closes it.
  std::chrono::milliseconds linger{1'000};
};

}  // namespace cohort
