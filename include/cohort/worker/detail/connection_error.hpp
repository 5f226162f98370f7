// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <system_error>

#include "../../core/error.hpp"

namespace cohort {

/// Whether an error is what a peer, the network or a time limit does to one connection, so that it ends that connection
/// and not the process.
bool is_of_connection(const std::error_code& code) noexcept;

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "connection_error.ipp"
#endif
