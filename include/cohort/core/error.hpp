// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <string>
#include <system_error>

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
  gave_up,            ///< the cluster has used up its restarts
  job_threw,          ///< a job of a process_pool has thrown an exception
  job_crashed,        ///< the process that did a job has ended
  not_ready,          ///< a process has ended before it could do what it was started for
};

namespace detail {

class category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "cohort"; }

  std::string message(int value) const override {
    switch (static_cast<errc>(value)) {
      case errc::peer_closed: return "the peer closed the channel";
      case errc::closed: return "already closed on this side";
      case errc::malformed: return "malformed data from the peer";
      case errc::message_too_large: return "message too large";
      case errc::unknown_message: return "the message is not known to both sides";
      case errc::schema_mismatch: return "the two sides define the message differently";
      case errc::wrong_handle_kind: return "the handle is of another kind";
      case errc::handle_lost: return "no free descriptor to receive the handle";
      case errc::handle_refused: return "the peer gave the handle back";
      case errc::too_many_handles: return "too many handles in one message";
      case errc::call_failed: return "the call failed on the other side";
      case errc::output_too_large: return "output too large";
      case errc::timed_out: return "timed out";
      case errc::status_taken: return "the exit status was collected by somebody else";
      case errc::no_child: return "there is no child";
      case errc::no_parent: return "not started with a channel";
      case errc::invalid_option: return "invalid option";
      case errc::already_running: return "already running";
      case errc::gave_up: return "gave up restarting";
      case errc::job_threw: return "the job has thrown";
      case errc::job_crashed: return "the job's process has ended";
      case errc::not_ready: return "the process was not ready yet";
    }
    return "unknown error";
  }
};

}  // namespace detail

/// The category of `errc`, named "cohort".
inline const std::error_category& error_category() noexcept {
  static const detail::category instance;
  return instance;
}

inline std::error_code make_error_code(errc e) noexcept { return {static_cast<int>(e), error_category()}; }

/// Throws std::system_error with the text `step: <what errno means>`.
[[noreturn]] inline void throw_error(const std::string& step, int error) {
  throw std::system_error(error, std::system_category(), step);
}

/// Throws std::system_error with the text `step: <what code means>`.
[[noreturn]] inline void throw_error(const std::string& step, errc code) {
  throw std::system_error(make_error_code(code), step);
}

[[noreturn]] inline void throw_error(const std::string& step, std::error_code code) {
  throw std::system_error(code, step);
}

}  // namespace cohort

template <>
struct std::is_error_code_enum<cohort::errc> : std::true_type {};
