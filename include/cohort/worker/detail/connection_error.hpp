// SPDX-License-Identifier: BSL-1.0
/// Which errors end one connection, and not the worker.
#pragma once

#include <system_error>

namespace cohort::detail {

/// Whether an error is what a peer, the network or a time limit does to one connection.
bool is_end_of_peer(const std::error_code& code) noexcept;

/// Whether an error of a connection ends that connection; any other one ends the process. Besides those of
/// is_end_of_peer(), these are of one send(2) that the kernel has no memory for, or that a signal has interrupted, and
/// what TLS or the PROXY protocol finds wrong with what the peer says.
bool is_of_connection(const std::error_code& code) noexcept;

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "connection_error.ipp"
#endif
