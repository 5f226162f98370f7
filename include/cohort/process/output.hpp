// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "../core/error.hpp"
#include "exit_status.hpp"

namespace cohort {

/// How a program that was run by exec or exec_file has ended, and what it has written.
struct output {
  exit_status status;                     ///< neither exited nor killed if it is not known, see exec_file()
  std::string out;
  std::string err;                        ///< empty if merged into `out`
  bool truncated = false;                 ///< more was written, or could still be, than `out` and `err` hold
  bool timed_out = false;                 ///< the time was over, and the program was ended
  std::chrono::microseconds duration{0};  ///< from the start until all of this was known
};

/// Thrown with errc::output_too_large by exec and exec_file. Holds what was read, up to the limit, and the status of
/// the killed program.
class truncated_output : public std::system_error {
 public:
  truncated_output(const std::string& step, cohort::output read)
      : std::system_error(make_error_code(errc::output_too_large), step),
        read_(std::make_shared<cohort::output>(std::move(read))) {}

  const cohort::output& output() const noexcept { return *read_; }

 private:
  std::shared_ptr<const cohort::output> read_;  // shared, because copying an exception must not fail
};

}  // namespace cohort
