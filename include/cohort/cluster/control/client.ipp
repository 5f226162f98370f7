// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "client.hpp"

#include "../../core/config.hpp"

#include <cerrno>
#include <chrono>
#include <variant>

#include <sys/socket.h>

#include <fmt/format.h>

#include "../../core/asio_error.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/system.hpp"

namespace cohort {

COHORT_INLINE asio::awaitable<control_client> control_client::connect(std::string path) {
  const std::string step = "connect " + path;
  const auto endpoint = control_protocol::endpoint_of("connect", path);
  const auto executor = co_await asio::this_coro::executor;
  descriptor socket(system::call.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) throw_error(step, errno);
  asio::steady_timer pause(executor);
  while (::connect(socket.get(), endpoint.data(), static_cast<socklen_t>(endpoint.size())) != 0) {
    const int error = errno;
    if (error == EINTR) continue;
    if (error != EAGAIN) throw_error(step, error);
    pause.expires_after(std::chrono::milliseconds(10));  // its queue is full (connect(2)), and nothing tells of room
    co_await pause.async_wait(detail::awaited);
  }
  control_client result;
  result.line_ = control_protocol::client_channel(executor, std::move(socket));
  const auto first = co_await result.line_.receive();
  if (!first) throw_error(step, errc::peer_closed);
  if (const auto* no = std::get_if<control_protocol::refused>(&*first)) {
    throw_error(fmt::format("{}: {}", step, no->reason), ECONNREFUSED);
  }
  if (const auto* yes = std::get_if<control_protocol::welcome>(&*first)) result.pid_ = yes->pid;
  co_return result;
}

COHORT_INLINE asio::awaitable<control_protocol::outcome> control_client::scale(unsigned workers) {
  control_protocol::scale question;
  question.workers = workers;
  return line_.call<control_protocol::outcome>(question);
}

COHORT_INLINE asio::awaitable<control_protocol::outcome> control_client::kill_worker(unsigned slot) {
  control_protocol::kill_worker question;
  question.slot = slot;
  return line_.call<control_protocol::outcome>(question);
}

COHORT_INLINE asio::awaitable<void> control_client::wait_end() {
  while (const auto ignored = co_await line_.receive()) {
  }
}

}  // namespace cohort
