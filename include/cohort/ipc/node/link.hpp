// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "json.hpp"
#include "message.hpp"
#include "options.hpp"
#include "transport/connection.hpp"

namespace cohort {

/// One end of a Node channel, with JSON values for messages: what `node_channel` is made on.
///
/// Messages arrive whole, in order and once. Any number of coroutines may use one link on one strand. An operation that
/// waits holds what it needs: the link may be moved meanwhile, or destroyed, which ends it with operation_aborted or
/// errc::closed. It reads in the background, so that handles are acknowledged and sockets counted whether anybody
/// receives or not; an io_context with an open link runs on.
///
/// Node's rules for handles: one is under way at a time, and what is sent after it waits here until the peer has
/// acknowledged it. That says that the descriptor has arrived, not that it has been used.
///
/// A message that cannot be read is errc::malformed from the receive() whose turn it is, and the channel goes on. What
/// breaks the channel, for all operations: errc::message_too_large, and ENOBUFS for a peer that writes on and on and
/// reads nothing.
///
/// Distinct objects: safe. Shared objects: unsafe. The executor is a strand or has one thread.
class node_link {
 public:
  /// No channel: every operation throws errc::closed.
  node_link() = default;

  /// Takes the connected AF_UNIX stream socket of which the peer has the other end.
  node_link(asio::any_io_executor executor, descriptor socket, const node_options& options = {});

  node_link(node_link&&) noexcept = default;
  node_link& operator=(node_link&& other) noexcept;
  ~node_link() { close(); }

  /// Whether messages can be sent: neither closed nor disconnected nor broken, and the peer has not disconnected.
  bool is_connected() const noexcept { return connection_ && connection_->is_connected(); }

  asio::any_io_executor get_executor() const;
  const node_options& options() const;

  /// Sends a message. Completes when the kernel has the whole of it; suspends while the peer does not read, or has not
  /// acknowledged a handle that was sent before.
  ///
  /// Throws EINVAL for a message that Node would take for one of its own or that cannot be written, errc::peer_closed,
  /// message_too_large, closed. Cancelling sends none of it and throws operation_aborted, or, if it had begun, sends
  /// the whole and returns. The message is encoded before this returns.
  [[nodiscard]] asio::awaitable<void> send(const json& message) { return send_value(message, false); }

  /// Sends a message with a descriptor, and completes when the peer has acknowledged it.
  ///
  /// `fd` stays the caller's, who closes it afterwards if it is given away, never by shutdown(). It must stay open
  /// until then. It is made non-blocking, for all who share it: Node expects that. Without a type it is what
  /// node_handle_type_for() says. Throws as send(), errc::wrong_handle_kind for a descriptor that Node does not take as
  /// that type, errc::handle_lost when the peer has no room for it (a net.Socket is sent four times before), and the
  /// errno of a descriptor that the kernel does not pass. If it throws, the peer does not use it, except after a
  /// cancellation that comes when it has left: then the peer may have it, too.
  [[nodiscard]] asio::awaitable<void> send_handle(const json& message, int fd,
                                                  std::optional<node_handle_type> type = {}) {
    return send_descriptor(message, fd, type, false);
  }

  /// The same for messages of Node's own, such as those of its cluster module: `cmd` is "NODE_CLUSTER". Throws EINVAL
  /// for a message that is none, or that is one of this link's own (handles, acknowledgements, counts).
  [[nodiscard]] asio::awaitable<void> send_internal(const json& message) { return send_value(message, true); }
  [[nodiscard]] asio::awaitable<void> send_internal_handle(const json& message, int fd,
                                                           std::optional<node_handle_type> type = {}) {
    return send_descriptor(message, fd, type, true);
  }

  /// Queues a message and returns at once; what a turn of the loop queues goes out together at its end.
  ///
  /// False when more than `high_water` bytes wait already, or the channel is not connected: it is not queued. Throws
  /// EINVAL and message_too_large as send().
  bool post(const json& message) { return post_value(message, false); }

  /// The same for a message of Node's own: see send_internal(). It is queued whatever waits already: what the cluster
  /// protocol says is short, and its loss would leave the peer waiting. A peer that asks on and on and reads nothing
  /// has the channel ended with ENOBUFS.
  bool post_internal(const json& message) { return post_value(message, true); }

  /// Takes the next message, with a handle or without; empty when the peer has disconnected or is gone and everything
  /// that it sent has been taken.
  ///
  /// Throws errc::malformed in the place of a message that cannot be read (the next can be), errc::peer_closed when the
  /// peer has gone in the middle of one, and what broke the channel. Cancelling throws operation_aborted and leaves the
  /// message for the next call.
  [[nodiscard]] asio::awaitable<std::optional<node_message>> receive() { return receive(wanted::any); }

  /// The next without a handle, and the next with one: each leaves the others where they are. Both kinds count for the
  /// limits of what waits here, so somebody must take both.
  [[nodiscard]] asio::awaitable<std::optional<node_message>> receive_plain() { return receive(wanted::plain); }
  [[nodiscard]] asio::awaitable<std::optional<node_message>> receive_handle() { return receive(wanted::handle); }

  /// The next message of Node's cluster module, if the options have `cluster`; in order among themselves.
  [[nodiscard]] asio::awaitable<std::optional<node_message>> receive_internal() { return receive(wanted::internal); }

  /// Waits until everything that was queued before is written, and acknowledged what there is to acknowledge. Throws as
  /// send().
  [[nodiscard]] asio::awaitable<void> flush();

  /// Refuses further messages, writes what is queued, waits for the acknowledgement of a handle, and closes: the peer's
  /// 'disconnect'. What had been read by then can still be received.
  ///
  /// Completes when it is closed, also when the peer is gone. Cancelling leaves it to happen by itself.
  [[nodiscard]] asio::awaitable<void> disconnect();

  /// Closes at once, as the destructor does. What waits here ends with operation_aborted or errc::closed; what has not
  /// been written is dropped, and handles that were not received are closed.
  void close() noexcept {
    if (connection_) connection_->close();
  }

  /// The parts of it, for what is built on it.
  const std::shared_ptr<detail::node_connection>& connection() const noexcept { return connection_; }

 private:
  using wanted = detail::node_inbox::wanted;

  asio::awaitable<void> send_value(const json& message, bool internal);
  asio::awaitable<void> send_descriptor(const json& message, int fd, std::optional<node_handle_type> type,
                                        bool internal);
  bool post_value(const json& message, bool internal);
  asio::awaitable<std::optional<node_message>> receive(wanted which);

  std::shared_ptr<detail::node_connection> connection_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "link.ipp"
#endif
