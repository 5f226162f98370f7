// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "error.hpp"

#include "config.hpp"

namespace cohort {

namespace detail {

COHORT_INLINE std::string category::message(int value) const {
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
    case errc::job_threw: return "the job has thrown";
    case errc::job_crashed: return "the job's process has ended";
    case errc::not_ready: return "the process was not ready yet";
    case errc::bad_proxy_header: return "not a valid header of the PROXY protocol";
  }
  return "unknown error";
}

}  // namespace detail

COHORT_INLINE const std::error_category& error_category() noexcept {
  static const detail::category instance;
  return instance;
}

COHORT_INLINE void throw_error(const std::string& step, int error) {
  throw std::system_error(error, std::system_category(), step);
}

COHORT_INLINE void throw_error(const std::string& step, errc code) {
  throw std::system_error(make_error_code(code), step);
}

COHORT_INLINE void throw_error(const std::string& step, std::error_code code) { throw std::system_error(code, step); }

}  // namespace cohort
