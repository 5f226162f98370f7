// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"

namespace cohort::detail {

/// Waits that an execution context has, but does not count: its run() returns when there is nothing else to do.
///
/// For what happens by the way, such as the end of a process that nobody waits for. `begun` is called right after the
/// wait has been started, in a handler of the context, and `ended` first in its own handler. What still waits when
/// run() returns goes on when the context runs again.
class uncounted_wait {
 public:
  static void begun(const asio::any_io_executor& executor) { scheduler(executor).work_finished(); }
  static void ended(const asio::any_io_executor& executor) { scheduler(executor).work_started(); }

 private:
  // The one that counts the work of every I/O object, whatever kind of context it is a part of.
  static asio::detail::scheduler& scheduler(const asio::any_io_executor& executor) {
    return asio::use_service<asio::detail::scheduler>(
        asio::query(executor, asio::execution::context_as<asio::execution_context&>));
  }
};

}  // namespace cohort::detail
