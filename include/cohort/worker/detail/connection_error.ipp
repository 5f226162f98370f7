// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "connection_error.hpp"

#include "../../core/config.hpp"

#include <cerrno>
#include <string_view>

#include "../../core/asio.hpp"
#include "../../core/asio_error.hpp"
#include "../../core/error.hpp"

namespace cohort::detail {

/// The errno of a code, 0 if it is of another kind. Asio's category is not the standard library's, and does not compare
/// equal to its conditions.
COHORT_INLINE int errno_of(const std::error_code& code) noexcept {
  const auto& category = code.category();
  const bool is_errno = category == asio::error::get_system_category() || category == std::system_category() ||
                        category == std::generic_category();
  return is_errno ? code.value() : 0;
}

COHORT_INLINE bool is_end_of_peer(const std::error_code& code) noexcept {
  if (code == std::error_code(asio_error(asio::error::eof)) || code == operation_aborted() || code == errc::timed_out)
    return true;
  switch (errno_of(code)) {
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

/// Whether an error is TLS's, told by the name of Asio's two categories for it, because the library does without
/// OpenSSL.
COHORT_INLINE bool is_of_tls(const std::error_code& code) noexcept {
  return std::string_view(code.category().name()).starts_with("asio.ssl");
}

COHORT_INLINE bool is_of_connection(const std::error_code& code) noexcept {
  const int number = errno_of(code);
  return number == ENOBUFS || number == ENOMEM || number == EINTR || is_of_tls(code) ||
         code == errc::bad_proxy_header || is_end_of_peer(code);
}

}  // namespace cohort::detail
