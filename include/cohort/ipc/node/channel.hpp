// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/safe_in_await.hpp"
#include "../channel.hpp"
#include "codec/json_codec.hpp"
#include "link.hpp"

namespace cohort {

namespace detail {

/// Which types a side of a channel sends: the alternatives if M is a variant, else M.
template <class M, class T>
inline constexpr bool is_node_message = std::is_same_v<M, T>;
template <class... Each, class T>
inline constexpr bool is_node_message<std::variant<Each...>, T> = (std::is_same_v<Each, T> || ...);

/// A message as a value of JSON: an alternative with its tag.
template <class M, class T>
json node_message_of(const T& message) {
  if constexpr (std::is_same_v<M, T>) {
    return write_json(message);
  } else {
    return write_alternative<M, T>(message, {});
  }
}

/// What only has to be thrown when the operation is awaited.
asio::awaitable<void> fail_with(std::exception_ptr failure);

/// Sends a handle, and lets go of the object when the peer has it.
asio::awaitable<void> give_node_handle(asio::awaitable<void> sent, handle_ref object);

}  // namespace detail

/// Typed messages and handles between this process and a Node process, or another that speaks Node's wire.
///
/// `Out` is what this side sends and `In` what it receives: a type that json_codec.hpp makes JSON of, a std::variant of
/// several, or `json`, and then anything goes. The rules of node_link hold: order, limits, cancellation, what breaks
/// the channel. A message that is JSON and not an In is errc::schema_mismatch or unknown_message, from the receive()
/// whose turn it is; the next one can be received.
///
/// Distinct objects: safe. Shared objects: unsafe. The executor is a strand or has one thread.
template <class Out, class In>
class node_channel {
  template <class M>
  static constexpr bool sends = detail::is_node_message<Out, M>;

 public:
  /// No channel: every operation throws errc::closed.
  node_channel() = default;

  /// Takes the connected AF_UNIX stream socket of which the peer has the other end.
  node_channel(asio::any_io_executor executor, descriptor socket, const node_options& options = {})
      : link_(std::move(executor), std::move(socket), options) {}

  /// Puts types on a link.
  explicit node_channel(node_link link) : link_(std::move(link)) {}

  /// See node_link.
  bool is_connected() const noexcept { return link_.is_connected(); }
  asio::any_io_executor get_executor() const { return link_.get_executor(); }
  node_link& link() noexcept { return link_; }

  /// Sends a message: see node_link::send(). Throws EOVERFLOW as well, with the path of an integer that JavaScript
  /// cannot hold.
  template <class M>
    requires(sends<std::remove_cvref_t<M>>)
  [[nodiscard]] asio::awaitable<void> send(M&& message) {
    static_assert(detail::safe_in_await<M&&>,
                  "GCC before 13 would destroy this message twice inside co_await: "
                  "name it first (job j{1, \"x\"}; co_await ch.send(j);) "
                  "or let it be made inside (co_await ch.send<job>(1, \"x\");)");
    return send_message(std::as_const(message));
  }

  /// Makes an M of `arguments` and sends it: `co_await ch.send<job>(1, "x")`.
  template <class M, class... Arguments>
    requires(sends<M> && !std::is_reference_v<M>)
  [[nodiscard]] asio::awaitable<void> send(Arguments&&... arguments) {
    const M message = detail::make_message<M>(std::forward<Arguments>(arguments)...);
    return send_message(message);
  }

  /// Queues a message and returns at once: see node_link::post(). Throws as send().
  template <class M>
    requires(sends<M>)
  bool post(const M& message) {
    return link_.post(detail::node_message_of<Out>(message));
  }

  /// Takes the next message without a handle; empty when the peer has disconnected or is gone and everything that it
  /// sent has been taken. See node_link::receive_plain().
  [[nodiscard]] asio::awaitable<std::optional<In>> receive() { return typed(link_.receive_plain()); }

  /// Takes the next message that came with a handle; empty when none will come.
  ///
  /// The peer has been told that the descriptor has arrived, and has closed its own if it was a net.Socket. A listener
  /// comes as one that listens. Node counts the sockets of a server that it closes: here they count until they are
  /// closed.
  [[nodiscard]] asio::awaitable<std::optional<received<In>>> receive_handle() {
    return typed_handle(link_.receive_handle());
  }

  /// Takes the next message in the order in which they were sent, with a handle or, then `handle` is false, without.
  [[nodiscard]] asio::awaitable<std::optional<received<In>>> receive_any() { return typed_handle(link_.receive()); }

  /// Hands `object` (a socket, an acceptor, a descriptor: see handle_traits) to the peer with a message, and completes
  /// when the peer has acknowledged that it has arrived.
  ///
  /// An rvalue is given away: it is closed here then, and not before. An lvalue is shared. `type` is what it is for
  /// Node: without, what node_handle_type_for() says. If this throws, `object` is still the caller's: see
  /// node_link::send_handle(). The object must outlive the operation and not be closed meanwhile. Many may be under
  /// way; Node's wire takes one after the other.
  ///
  /// An acknowledgement says that the descriptor has arrived, and Node sends it before its program sees the handle. If
  /// the peer dies between the two, nobody can tell: a program that has to know has the peer answer.
  template <class M, class Handle>
    requires(sends<std::remove_cvref_t<M>>)
  [[nodiscard]] asio::awaitable<void> send_handle(M&& message, Handle&& object,
                                                  std::optional<node_handle_type> type = {}) {
    static_assert(detail::safe_in_await<M&&>,
                  "GCC before 13 would destroy this message twice inside co_await: name it first");
    constexpr bool give = !std::is_lvalue_reference_v<Handle>;
    const detail::handle_ref ref(object, give);
    handle_kind kind{};
    try {
      return detail::give_node_handle(
          link_.send_handle(detail::node_message_of<Out>(std::as_const(message)), ref.get(kind), type), ref);
    } catch (...) {
      return detail::fail_with(std::current_exception());
    }
  }

  /// See node_link.
  [[nodiscard]] asio::awaitable<void> flush() { return link_.flush(); }
  [[nodiscard]] asio::awaitable<void> disconnect() { return link_.disconnect(); }
  void close() noexcept { link_.close(); }

 private:
  template <class M>
  asio::awaitable<void> send_message(const M& message) {
    try {
      return link_.send(detail::node_message_of<Out>(message));
    } catch (...) {
      return detail::fail_with(std::current_exception());
    }
  }

  // These hold what they wait for, and not the channel, which may move or go meanwhile.

  static asio::awaitable<std::optional<In>> typed(asio::awaitable<std::optional<node_message>> next) {
    auto arrived = co_await std::move(next);
    std::optional<In> result;
    if (arrived) result.emplace(read_json<In>(arrived->value));
    co_return result;
  }

  static asio::awaitable<std::optional<received<In>>> typed_handle(asio::awaitable<std::optional<node_message>> next) {
    auto arrived = co_await std::move(next);
    std::optional<received<In>> result;
    if (arrived) result.emplace(received<In>{read_json<In>(arrived->value), std::move(arrived->handle.object)});
    co_return result;
  }

  node_link link_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "channel.ipp"
#endif
