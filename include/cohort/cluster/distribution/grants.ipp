// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "grants.hpp"

#include <new>
#include <system_error>
#include <utility>

#include "../../core/asio_error.hpp"
#include "../../core/config.hpp"
#include "../../core/error.hpp"
#include "../../core/timeout.hpp"
#include "../../worker/protocol.hpp"

namespace cohort {

COHORT_INLINE std::uint32_t listener_grants::give(const worker_ptr& who, const descriptor& socket,
                                                  std::chrono::milliseconds limit, std::function<void(bool)> done) {
  tasks_.start(send(who, socket, ++last_, limit, std::move(done)), ignored("it ends this way only if cancelled"));
  return last_;
}

COHORT_INLINE void listener_grants::take_back(const worker_ptr& who, std::uint32_t grant) {
  worker_protocol::unlisten message;
  message.listener = number_;
  message.grant = grant;
  who->tell(message);  // if it is gone, its copy is too
}

COHORT_INLINE asio::awaitable<void> listener_grants::finish() {
  try {
    co_await with_timeout(tasks_.wait_empty(), std::chrono::seconds(1));
  } catch (...) {
    detail::caught();
    tasks_.cancel();
  }
  co_await tasks_.wait_empty();
}

COHORT_INLINE asio::awaitable<void> listener_grants::send(worker_ptr who, const descriptor& socket, std::uint32_t grant,
                                                          std::chrono::milliseconds limit,
                                                          std::function<void(bool)> done) {
  worker_protocol::listen message;
  message.listener = number_;
  message.grant = grant;
  bool granted = false, lost = false;
  try {
    co_await with_timeout(who->peer.send_handle(message, socket), limit);
    granted = true;
  } catch (const std::bad_alloc&) {
    lost = true;  // a worker without its listener would be idle for good
  } catch (...) {
    const auto error = detail::caught();
    if (error.code() == operation_aborted()) throw;
    lost = error.code() == errc::handle_lost || error.code() == errc::unknown_message;
  }
  if (!granted) {
    take_back(who, grant);  // if the limit has passed, its answer may cross with this
    asio::steady_timer pause(tasks_.get_executor(), std::chrono::milliseconds(lost ? 50 : 1));
    co_await pause.async_wait(detail::awaited);
  }
  done(granted);
}

}  // namespace cohort
