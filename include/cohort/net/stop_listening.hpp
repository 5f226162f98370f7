// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <unistd.h>

#include "../core/asio.hpp"

namespace cohort {

/// Lets go of a listener that another process has, too: send_handle() has given it a copy. Operations that wait on it
/// end with operation_aborted.
///
/// close() does not do that. The socket stays open in the other process, and with it the entry in this loop's epoll(7)
/// set, which the kernel keeps per open file description: each connection there would wake this process, too.
template <class Protocol, class Executor>
void stop_listening(asio::basic_socket_acceptor<Protocol, Executor>& acceptor) {
  if (acceptor.is_open()) ::close(acceptor.release());  // out of the set first
}

}  // namespace cohort
