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

COHORT_INLINE std::optional<std::system_error> system_error_in(const std::exception_ptr& failure) {
  try {
    if (failure) std::rethrow_exception(failure);
    return std::nullopt;
  } catch (const std::system_error& error) {
    return error;
#ifdef COHORT_BOOST_ASIO
  } catch (const boost::system::system_error& error) {
    return std::system_error(std::error_code(error.code()));
#endif
  } catch (...) {
    return std::nullopt;
  }
}

}  // namespace cohort::detail
