// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "connection_handler.hpp"

#include "../core/config.hpp"

#include "../ipc/handle.hpp"

namespace cohort {
namespace detail {

COHORT_INLINE asio::ip::tcp::socket make_tcp_socket(const asio::any_io_executor& executor, descriptor fd) {
  return handle_traits<asio::ip::tcp::socket>::make(executor, std::move(fd));
}

COHORT_INLINE asio::local::stream_protocol::socket make_local_socket(const asio::any_io_executor& executor,
                                                                     descriptor fd) {
  return handle_traits<asio::local::stream_protocol::socket>::make(executor, std::move(fd));
}

}  // namespace detail

COHORT_INLINE bool connection_handler::takes(handle_kind kind) const noexcept {
  return (kind == handle_kind::tcp_socket && takes_tcp_) || (kind == handle_kind::local_socket && takes_local_);
}

COHORT_INLINE asio::awaitable<void> connection_handler::operator()(any_handle socket,
                                                                   const asio::any_io_executor& executor,
                                                                   worker& self) const {
  const bool local = takes_local_ && (!takes_tcp_ || socket.kind() == handle_kind::local_socket);
  if (local) {
    socket.check<asio::local::stream_protocol::socket>();
  } else {
    socket.check<asio::ip::tcp::socket>();
  }
  return serve_(local, std::move(socket).as<descriptor>(executor), executor, self);
}

}  // namespace cohort
