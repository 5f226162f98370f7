// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <system_error>

#include <poll.h>

#include "../../core/asio.hpp"

namespace cohort {

/// The connections of a worker that wait for their next request, so that they can be closed when it drains.
///
/// Distinct objects: safe. Shared objects: unsafe.
class idle_connections {
 public:
  /// See worker::readable().
  template <class Socket>
  asio::awaitable<bool> readable(Socket& socket) {
    if (!over_) {
      const auto outer = co_await asio::this_coro::cancellation_state;
      waiting mine(*this);
      // The wait has a cancellation of its own, for the drain; the coroutine's reaches it through this.
      if (outer.slot().is_connected()) {
        outer.slot().assign([&mine](asio::cancellation_type type) { mine.wake.emit(type); });
      }
      std::error_code error;
      co_await socket.async_wait(
          Socket::wait_read,
          asio::bind_cancellation_slot(mine.wake.slot(), asio::redirect_error(asio::use_awaitable, error)));
      if (outer.slot().is_connected()) outer.slot().clear();
      if (!error) co_return true;
      if (!mine.told || error != asio::error::operation_aborted || outer.cancelled() != asio::cancellation_type::none) {
        throw std::system_error(error, "readable");
      }
    }
    pollfd look{socket.native_handle(), POLLIN, 0};
    co_return ::poll(&look, 1, 0) > 0;
  }

  /// Tells a part of them, 0 to 1, that their time is up.
  void close(double part);

  /// Tells all of them, and from now on nobody waits.
  void close_all();

 private:
  struct waiting {
    explicit waiting(idle_connections& o);
    waiting(const waiting&) = delete;
    ~waiting();

    idle_connections& owner;
    asio::cancellation_signal wake;
    bool told = false;  // that its time is up
    waiting* next;
    waiting* previous = nullptr;
  };

  waiting* first_ = nullptr;
  bool over_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "idle_connections.ipp"
#endif
