// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>
#include <system_error>

#include "config.hpp"

namespace cohort {

/// What can go wrong beyond an errno. Every failure of the library is a std::system_error that holds one of these or an
/// errno (std::system_category), and whose text names the step and the value: `spawn: chdir "/nope": No such file or
/// directory`.
enum class errc {
  peer_closed = 1,    ///< the other process closed the channel, or died
  closed,             ///< this side has closed or disconnected the object
  malformed,          ///< bytes that no correct peer sends; the channel is closed
  message_too_large,  ///< a message over max_message, in either direction
  unknown_message,    ///< one side does not know this type of message
  schema_mismatch,    ///< both sides have one type of message, and it is not the same
  wrong_handle_kind,  ///< a descriptor is not what it was said to be
  handle_lost,        ///< the receiver had no room for a descriptor (its table is full)
  handle_refused,     ///< the peer gave a handle back without having used it
  too_many_handles,   ///< more descriptors than one message can carry
  call_failed,        ///< the other side could not answer a call; the text is its own
  output_too_large,   ///< a program wrote more than the caller wants to hold
  timed_out,          ///< the time given to with_timeout has passed
  status_taken,       ///< a child's exit status was collected by somebody else in this process
  no_child,           ///< the object holds no child
  no_parent,          ///< this process was not started with a channel
  invalid_option,     ///< an option that cannot be served, said with its value
  already_running,    ///< another process does the job, and has the pid file
  job_threw,          ///< a job of a process_pool has thrown an exception
  job_crashed,        ///< the process that did a job has ended
  not_ready,          ///< a process has ended before it could do what it was started for
  bad_proxy_header,   ///< a connection does not begin as the PROXY protocol says
};

namespace detail {

class category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "cohort"; }

  std::string message(int value) const override;
};

}  // namespace detail

/// The category of `errc`, named "cohort".
const std::error_category& error_category() noexcept;

/// What lets an errc become a std::error_code by itself.
inline std::error_code make_error_code(errc e) noexcept { return {static_cast<int>(e), error_category()}; }

/// Throws std::system_error with the text `step: <what errno means>`.
[[noreturn]] void throw_error(const std::string& step, int error);

/// Throws std::system_error with the text `step: <what code means>`.
[[noreturn]] void throw_error(const std::string& step, errc code);

[[noreturn]] void throw_error(const std::string& step, std::error_code code);

}  // namespace cohort

template <>
struct std::is_error_code_enum<cohort::errc> : std::true_type {};

#ifndef COHORT_SEPARATE_COMPILATION
#include "error.ipp"
#endif
