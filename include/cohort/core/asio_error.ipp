// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio_error.hpp"

#include "config.hpp"

namespace cohort::detail {

COHORT_INLINE std::system_error caught() {
  auto error = system_error_in(std::current_exception());
  if (!error) throw;
  return *std::move(error);
}

/// The same where it is Asio's own exception, which `Own` is: a handler for it would be one too many if it is the
/// standard library's.
template <class Own>
std::optional<std::system_error> own_error_in(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const Own& error) {
    return std::system_error(std::error_code(error.code()));
  } catch (...) {
    return std::nullopt;
  }
}

COHORT_INLINE std::optional<std::system_error> system_error_in(const std::exception_ptr& failure) {
  try {
    if (failure) std::rethrow_exception(failure);
  } catch (const std::system_error& error) {
    return error;
  } catch (...) {
    if constexpr (throws_its_own) return own_error_in<asio_exception>(failure);
  }
  return std::nullopt;
}

}  // namespace cohort::detail
