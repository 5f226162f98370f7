// SPDX-License-Identifier: BSL-1.0
/// The connections of a worker that wait for their next request, so that they can be closed when it drains.
///
/// The worker owns the list; each wait is in the frame of worker::readable(), on the worker's executor.
#pragma once

#include <system_error>

#include "../../core/asio.hpp"
#include "../../core/asio_error.hpp"

namespace cohort::detail {

class idle_wait;

/// The waits that are under way. Distinct objects: safe. Shared objects: unsafe. Must outlive the waits.
class idle_connections {
 public:
  idle_connections() = default;
  idle_connections(const idle_connections&) = delete;
  idle_connections& operator=(const idle_connections&) = delete;

  /// Tells a part of them, 0 to 1, that their time is up.
  void close(double part);

  /// Tells all of them, and from now on nobody waits.
  void close_all();

 private:
  friend class idle_wait;

  idle_wait* first_ = nullptr;
  bool over_ = false;
};

/// One wait, all but the operation itself, which depends on the type of the socket: see worker::readable().
class idle_wait {
 public:
  /// `outer` is the state of the coroutine that waits.
  idle_wait(idle_connections& owner, const asio::cancellation_state& outer);
  idle_wait(const idle_wait&) = delete;
  idle_wait& operator=(const idle_wait&) = delete;
  ~idle_wait();

  /// False when the time of all connections is up: result() only looks then.
  bool wanted() const noexcept { return linked_; }

  /// The completion token of the wait.
  auto token() { return asio::bind_cancellation_slot(wake_.slot(), asio::redirect_error(asio::use_awaitable, error_)); }

  /// Whether `fd` has something to read. Throws what the wait has failed with, operation_aborted if the coroutine was
  /// cancelled.
  bool result(int fd);

 private:
  friend class idle_connections;

  idle_connections& owner_;
  asio::cancellation_state outer_;
  // The wait has a cancellation of its own, for the drain; the coroutine's reaches it through this.
  asio::cancellation_signal wake_;
  asio_error error_;
  bool linked_ = false;
  bool told_ = false;  // that its time is up
  idle_wait* next_ = nullptr;
  idle_wait* previous_ = nullptr;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "idle_connections.ipp"
#endif
