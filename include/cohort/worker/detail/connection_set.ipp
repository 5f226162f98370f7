// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "connection_set.hpp"

#include "../../core/config.hpp"

#include <utility>

#include <fmt/format.h>

#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../net/acceptor.hpp"

namespace cohort::detail {

COHORT_INLINE connection_set::connection_set(const asio::any_io_executor& executor, worker& self,
                                             connection_handler handler, const worker_options& options,
                                             std::function<void(asio::awaitable<void>)> start,
                                             std::function<void(bool leased, const std::exception_ptr&)> ended)
    : self_(self),
      options_(options),
      handler_(std::move(handler)),
      tasks_(executor),
      accepting_(
          executor, std::move(start), [this] { return has_room(); },
          [this](any_handle socket) { serve(std::move(socket)); }),
      ended_(std::move(ended)) {}

COHORT_INLINE void connection_set::listen(key which, any_handle socket) {
  const auto executor = get_executor();
  if (socket.kind() == handle_kind::udp_socket) {
    return serve_datagrams(which, std::move(socket).as<asio::ip::udp::socket>(executor));
  }
  const bool listens = socket.kind() == handle_kind::tcp_acceptor || socket.kind() == handle_kind::local_acceptor;
  auto on = std::make_shared<acceptor>(executor, std::move(socket).as<descriptor>(executor));
  if (listens && !handler_.takes(on->accepts())) {
    throw_error(fmt::format("worker: the handler takes no {}", to_string(on->accepts())), errc::wrong_handle_kind);
  }
  unlisten(which);
  accepting_.add(which, std::move(on));
}

COHORT_INLINE void connection_set::serve_datagrams(key which, asio::ip::udp::socket socket) {
  if (!options_.serve_datagrams) {
    throw_error("worker: no worker_options::serve_datagrams", errc::wrong_handle_kind);
  }
  datagrams_[which] = tasks_.start(options_.serve_datagrams(std::move(socket), self_),
                                   [this](std::exception_ptr failure) { on_ended(false, failure); });
}

COHORT_INLINE void connection_set::unlisten(key which) {
  if (const auto udp = datagrams_.extract(which); !udp.empty()) {
    if (const auto signal = udp.mapped().lock()) signal->emit(asio::cancellation_type::terminal);
  }
  accepting_.close(which);
}

COHORT_INLINE void connection_set::close_listeners(bool empty_queues) {
  if (empty_queues) {
    accepting_.accept_what_waits([this](asio::awaitable<void> rest) {
      tasks_.start(std::move(rest), [this](std::exception_ptr) { ended_(false, nullptr); });
    });
  }
  accepting_.close_all();
}

COHORT_INLINE void connection_set::serve_leased(any_handle socket, asio::awaitable<void> taken) {
  start(serve_after(std::move(taken), std::move(socket)), true);
}

COHORT_INLINE asio::awaitable<void> connection_set::serve_after(asio::awaitable<void> taken, any_handle socket) {
  co_await std::move(taken);
  co_await handler_(std::move(socket), get_executor(), self_);
}

COHORT_INLINE void connection_set::serve(any_handle socket) {
  try {
    start(handler_(std::move(socket), get_executor(), self_), false);
  } catch (...) {
    // A handler that is no coroutine throws here. It must not end the accepting with its own connection.
    ended_(false, std::current_exception());
  }
}

COHORT_INLINE void connection_set::start(asio::awaitable<void> serving, bool leased) {
  tasks_.start(std::move(serving), [this, leased](std::exception_ptr failure) { on_ended(leased, failure); });
}

COHORT_INLINE void connection_set::on_ended(bool leased, const std::exception_ptr& failure) {
  ++served_;
  accepting_.note_room();
  ended_(leased, failure);
}

}  // namespace cohort::detail
