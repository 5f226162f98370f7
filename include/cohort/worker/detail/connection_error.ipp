// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "connection_error.hpp"

#include "../../core/config.hpp"

#include <cerrno>

#include "../../core/asio.hpp"
#include "../../core/error.hpp"

namespace cohort::detail {

COHORT_INLINE bool is_of_connection(const std::error_code& code) noexcept {
  if (code == asio::error::eof || code == asio::error::operation_aborted || code == errc::timed_out) return true;
  // Asio's errno category is not the standard library's, and does not compare equal to its conditions.
  const auto& category = code.category();
  if (category != asio::error::get_system_category() && category != std::system_category() &&
      category != std::generic_category()) {
    return false;
  }
  switch (code.value()) {
    case ECONNRESET:
    case ECONNABORTED:
    case ECONNREFUSED:
    case EPIPE:
    case ENOTCONN:
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case ENETRESET: return true;
    default: return false;
  }
}

}  // namespace cohort::detail
