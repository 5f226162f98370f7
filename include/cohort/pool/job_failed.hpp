// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "../core/error.hpp"
#include "../process/exit_status.hpp"

namespace cohort {

/// A job has come to no result. By code():
///
///   - errc::job_threw: it has thrown; text() is the exception's text;
///   - errc::job_crashed: its process has ended, as status() says;
///   - errc::timed_out: it has been killed when its deadline passed;
///   - errc::not_ready: the process that was started for it ended before it could take a job, as status() says.
///
/// A plain value: reading it from several threads is safe.
class job_failed : public std::system_error {
 public:
  /// The text is `job sum_job: killed by SIGSEGV (11): the job's process has ended`.
  job_failed(errc code, std::string_view job, std::string text, exit_status status = {})
      : std::system_error(make_error_code(code), fmt::format("job {}: {}", job, text)),
        text_(std::move(text)),
        status_(status) {}

  /// What has happened: the text of the job's exception, or how its process has ended.
  const std::string& text() const noexcept { return text_; }

  /// How its process has ended; neither exited nor killed if that is not why it failed.
  const exit_status& status() const noexcept { return status_; }

 private:
  std::string text_;
  exit_status status_;
};

}  // namespace cohort
