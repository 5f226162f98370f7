// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "link.hpp"

#include "../../core/config.hpp"

#include <cerrno>

#include <fcntl.h>
#include <sys/socket.h>

#include "../../core/error.hpp"

namespace cohort {

namespace detail {

/// A frame that is to be sent, or why not: a failure belongs to the operation, and not to the call that makes it.
struct encoded_node_message {
  std::string bytes;
  int fd = -1;
  std::optional<node_handle_type> type;
  std::exception_ptr failure;
};

inline void check_node_message(const json& message, bool internal) {
  const bool is_internal = is_node_internal(message);
  if (!internal) {
    if (is_internal) {
      throw_error("send: Node keeps messages with a cmd that begins with \"NODE_\" for itself: \"" +
                      message["cmd"].get<std::string>() + "\"",
                  EINVAL);
    }
    return;
  }
  const auto cmd = is_internal ? message["cmd"].get<std::string>() : std::string();
  if (cmd.empty() || cmd.starts_with("NODE_HANDLE") || cmd.starts_with("NODE_SOCKET_")) {
    throw_error("send: \"" + cmd + "\" is no internal message that may be sent", EINVAL);
  }
}

/// Node takes a descriptor for one that does not block, and Node 18 (libuv 1.44) would stop in accept() on one that
/// does.
inline void unblock(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags >= 0 && (flags & O_NONBLOCK) == 0) ::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

inline std::shared_ptr<encoded_node_message> encode_node_message(const std::shared_ptr<node_connection>& to,
                                                                 const json& message, int fd,
                                                                 std::optional<node_handle_type> type, bool internal) {
  auto result = std::make_shared<encoded_node_message>();
  if (!to) return result;
  try {
    check_node_message(message, internal);
    if (!type) {
      result->bytes = to_node_frame(message, to->options());
      return result;
    }
    check_node_handle(fd, *type);
    json envelope = json::object();
    envelope["cmd"] = "NODE_HANDLE";
    envelope["type"] = to_string(*type);
    envelope["msg"] = message;
    if (*type == node_handle_type::datagram) envelope["dgramType"] = domain_of(fd) == AF_INET6 ? "udp6" : "udp4";
    result->bytes = to_node_frame(envelope, to->options());
    result->fd = fd;
    result->type = type;
    unblock(fd);
  } catch (...) {
    result->failure = std::current_exception();
  }
  return result;
}

inline asio::awaitable<void> send_node_message(std::shared_ptr<node_connection> to, const char* step,
                                               std::shared_ptr<encoded_node_message> message) {
  if (!to) throw_error(step, errc::closed);
  if (message->failure) std::rethrow_exception(message->failure);
  const auto under_way = to->push(step, std::move(message->bytes), message->fd, message->type);
  if (under_way->state == node_outgoing::stage::done) co_return;
  co_await node_connection::finish(to, step, under_way);
}

}  // namespace detail

COHORT_INLINE node_link::node_link(asio::any_io_executor executor, descriptor socket, const node_options& options)
    : connection_(detail::node_connection::open(std::move(executor), std::move(socket), options)) {}

COHORT_INLINE node_link& node_link::operator=(node_link&& other) noexcept {
  if (this != &other) {
    close();
    connection_ = std::move(other.connection_);
  }
  return *this;
}

COHORT_INLINE asio::any_io_executor node_link::get_executor() const {
  if (!connection_) throw_error("get_executor", errc::closed);
  return connection_->get_executor();
}

COHORT_INLINE const node_options& node_link::options() const {
  if (!connection_) throw_error("options", errc::closed);
  return connection_->options();
}

COHORT_INLINE asio::awaitable<void> node_link::send_value(const json& message, bool internal) {
  return detail::send_node_message(connection_, "send",
                                   detail::encode_node_message(connection_, message, -1, std::nullopt, internal));
}

COHORT_INLINE asio::awaitable<void> node_link::send_descriptor(const json& message, int fd,
                                                               std::optional<node_handle_type> type, bool internal) {
  std::shared_ptr<detail::encoded_node_message> encoded;
  try {
    const auto as = type ? *type : node_handle_type_for(fd);
    encoded = detail::encode_node_message(connection_, message, fd, as, internal);
  } catch (...) {
    encoded = std::make_shared<detail::encoded_node_message>();
    encoded->failure = std::current_exception();
  }
  return detail::send_node_message(connection_, "send_handle", std::move(encoded));
}

COHORT_INLINE bool node_link::post_value(const json& message, bool internal) {
  if (!is_connected()) return false;
  if (!internal && connection_->waiting_bytes() > connection_->options().high_water) return false;
  detail::check_node_message(message, internal);
  connection_->queue(detail::to_node_frame(message, connection_->options()), internal);
  connection_->flush_soon();
  return true;
}

COHORT_INLINE asio::awaitable<std::optional<node_message>> node_link::receive(wanted which) {
  if (!connection_) throw_error("receive", errc::closed);
  return detail::node_connection::receive(connection_, which);
}

COHORT_INLINE asio::awaitable<void> node_link::flush() {
  if (!connection_) throw_error("flush", errc::closed);
  return detail::node_connection::flush(connection_);
}

COHORT_INLINE asio::awaitable<void> node_link::disconnect() {
  if (!connection_) throw_error("disconnect", errc::closed);
  return detail::node_connection::disconnect(connection_);
}

}  // namespace cohort
