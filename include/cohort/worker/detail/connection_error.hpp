// SPDX-License-Identifier: BSL-1.0
/// Which errors end one connection, and not the worker.
#pragma once

#include <system_error>

namespace cohort::detail {

/// Whether an error is what a peer, the network or a time limit does to one connection. It ends that connection; any
/// other error ends the process.
bool is_of_connection(const std::error_code& code) noexcept;

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "connection_error.ipp"
#endif
