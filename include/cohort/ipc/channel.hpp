// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "../core/asio.hpp"
#include "../core/descriptor.hpp"
#include "../core/error.hpp"
#include "byte_buffer.hpp"
#include "channel_options.hpp"
#include "channel_pair.hpp"
#include "codec.hpp"
#include "handle.hpp"
#include "link.hpp"
#include "schema.hpp"

namespace cohort {

/// A message that came with a handle.
template <class In>
struct received {
  In message;
  any_handle handle;
};

namespace detail {

// GCC before 13 destroys an aggregate that is made inside an await expression twice (PR101976, PR99576).
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
template <class M>
inline constexpr bool safe_in_await = std::is_lvalue_reference_v<M> || !std::is_aggregate_v<std::remove_cvref_t<M>> ||
                                      std::is_trivially_destructible_v<std::remove_cvref_t<M>>;
#else
template <class M>
inline constexpr bool safe_in_await = true;
#endif

}  // namespace detail

/// Typed messages and handles between two processes.
///
/// `Out` is what this side sends and `In` what it receives: one type, or a std::variant of several. Messages arrive
/// whole, in order and once; handles among themselves likewise. Any number of coroutines may use one channel on one
/// strand. An operation that waits holds what it needs: the channel may be moved meanwhile, or destroyed, which ends it
/// with operation_aborted or errc::closed. Everything that this side has queued goes out only if it calls disconnect()
/// or flush() before it destroys the channel.
///
/// Every operation throws what breaks the channel: errc::malformed, message_too_large (the peer sends what it may not;
/// the channel is closed), schema_mismatch (both sides have a single type, and not the same).
///
/// Distinct objects: safe. Shared objects: unsafe.
template <class Out, class In>
class channel {
  using outgoing = message_set<Out>;
  using incoming = message_set<In>;

 public:
  /// No channel: every operation throws errc::closed.
  channel() = default;

  /// Takes the connected AF_UNIX stream socket that the peer's channel has the other end of, and sends the hello, for
  /// which nobody waits.
  channel(asio::any_io_executor executor, descriptor socket, const channel_options& options = {})
      : link_(std::make_shared<link>(std::move(executor), std::move(socket), options, &negotiate<Out, In>,
                                     outgoing::names)) {
    link_->greet(make_hello<Out, In>(options.max_message));
  }

  channel(channel&&) noexcept = default;
  channel& operator=(channel&& other) noexcept {
    if (this != &other) {
      close();
      link_ = std::move(other.link_);
    }
    return *this;
  }
  ~channel() { close(); }

  /// Whether the channel is neither closed here nor broken. The peer may be gone.
  bool is_open() const noexcept { return link_ && link_->is_open(); }
  asio::any_io_executor get_executor() { return open("get_executor").get_executor(); }

  /// The socket, still the channel's.
  int native_handle() { return open("native_handle").native_handle(); }

  /// Sends a message. Completes when the kernel has the whole of it; suspends only while the peer does not read.
  ///
  /// Throws errc::peer_closed, unknown_message (the peer's program does not know this type), message_too_large, closed.
  /// Cancelling sends none of it and throws operation_aborted, or, if it had begun, sends the whole and returns. The
  /// message is encoded before this returns, or copied when it is small: it need not outlive the call.
  template <class M>
    requires(outgoing::template contains<std::remove_cvref_t<M>>)
  [[nodiscard]] asio::awaitable<void> send(M&& message) {
    static_assert(detail::safe_in_await<M&&>,
                  "GCC before 13 would destroy this message twice inside co_await: "
                  "name it first (job j{1, \"x\"}; co_await ch.send(j);) "
                  "or let it be made inside (co_await ch.send<job>(1, \"x\");)");
    return send_any(message);
  }

  /// Makes an M of `arguments` and sends it: `co_await ch.send<job>(1, "x")`.
  template <class M, class... Arguments>
    requires(outgoing::template contains<M> && !std::is_reference_v<M>)
  [[nodiscard]] asio::awaitable<void> send(Arguments&&... arguments) {
    const M message(std::forward<Arguments>(arguments)...);
    return send_any(message);
  }

  /// Queues a message and returns at once; what a turn of the loop queues goes out together at its end.
  ///
  /// False when more than `high_water` bytes wait already: the message is not queued. Throws as send() does.
  template <class M>
    requires(outgoing::template contains<M>)
  bool post(const M& message) {
    link& self = open("post");
    self.check_sendable("post", number_of<M>);
    if (self.out().waiting_bytes() >= self.options().high_water) return false;
    append(self, "post", message);
    if (self.out().waiting_bytes() >= flush_at) {
      self.flush_now();
    } else {
      self.flush_soon();
    }
    return true;
  }

  template <class M, class... Arguments>
    requires(outgoing::template contains<M>)
  bool post(std::in_place_type_t<M>, Arguments&&... arguments) {
    const M message(std::forward<Arguments>(arguments)...);
    return post(message);
  }

  /// Waits until the kernel has everything that was queued before. Throws as send() does; cancelling changes nothing.
  [[nodiscard]] asio::awaitable<void> flush() { return flush_link(link_); }

  /// Takes the next message; empty when the peer has disconnected or is gone and everything it had sent has been taken.
  ///
  /// Does not suspend while messages that have been read are left. Throws errc::peer_closed when the peer died in the
  /// middle of a message, errc::unknown_message for one that this program does not know (the next can be received).
  /// Cancelling throws operation_aborted and leaves the message for the next call.
  [[nodiscard]] asio::awaitable<std::optional<In>> receive() { return receive_message(link_); }

  /// Hands `object` (a socket, an acceptor, a descriptor: see handle_traits) to the peer with a message, and completes
  /// when the peer's receive_handle() has returned it.
  ///
  /// An rvalue is given away: it is closed here then, and not before. An lvalue is shared. If this throws, `object` is
  /// still the caller's, open as it was: errc::peer_closed (the peer died or closed before it took it), handle_refused,
  /// handle_lost (its descriptor table is full), wrong_handle_kind, unknown_message, message_too_large.
  /// Cancelling throws operation_aborted and tells the peer to drop the handle; a peer that takes it before it hears of
  /// that has it too, as if it had been shared. The object must outlive the operation and not be closed meanwhile; many
  /// may be under way at once (`max_leases`).
  template <class M, class Handle>
    requires(outgoing::template contains<std::remove_cvref_t<M>>)
  [[nodiscard]] asio::awaitable<void> send_handle(M&& message, Handle&& object) {
    static_assert(detail::safe_in_await<M&&>,
                  "GCC before 13 would destroy this message twice inside co_await: name it first");
    constexpr bool give = !std::is_lvalue_reference_v<Handle>;
    return lease<give>(link_, number_of<std::remove_cvref_t<M>>, encode_now(message), object);
  }

  /// Takes the next message that came with a handle; empty when none will come. This is what tells the sender that the
  /// handle has been taken over: the word leaves with this turn of the loop, or as soon as the sender reads again. A
  /// channel that is closed before takes it along, and the sender keeps the handle too; flush() waits for it.
  ///
  /// Otherwise as receive(). Cancelling leaves the handle for the next call.
  [[nodiscard]] asio::awaitable<std::optional<received<In>>> receive_handle() { return receive_lease(link_); }

  /// Gives back the handles that have arrived and not been taken, and those that still come: their senders get
  /// errc::handle_refused and keep them. They are read, and so given back, while somebody waits for input here.
  void decline_handles() { open("decline_handles").decline_leases(); }

  /// Ends this side's messages: everything queued goes out, and then the peer's receive() is empty. Receiving goes on.
  ///
  /// Completes when the kernel has it all, also when the peer is gone. Cancelling leaves it to go out by itself.
  [[nodiscard]] asio::awaitable<void> disconnect() { return disconnect_link(link_); }

  /// Closes at once, as the destructor does. What waits here ends with operation_aborted or errc::closed, what has not
  /// been written is dropped, and handles that arrived and were not taken go back to the peer. A handle that is under
  /// way is the caller's again; as after a cancellation, the peer may have it too.
  void close() noexcept {
    if (link_) link_->close();
  }

 private:
  static constexpr std::size_t flush_at = 64 * 1024;

  template <class M>
  static constexpr std::size_t number_of = outgoing::template index_of<M>;

  // What has been encoded before the operation starts, or why that has failed, which the operation throws.
  struct encoded {
    byte_buffer bytes;
    std::exception_ptr failure;
  };

  static link& open(const std::shared_ptr<link>& self, const char* step) {
    if (!self) throw_error(step, errc::closed);
    return *self;
  }
  link& open(const char* step) { return open(link_, step); }

  template <class M>
  static void put(byte_buffer& to, const M& message) {
    wire::store(to.grow(2), number_of<M>, 2);
    encode(to, message);
  }

  template <class M>
  static encoded encode_now(const M& message) noexcept {
    encoded result;
    try {
      put(result.bytes, message);
    } catch (...) {
      result.failure = std::current_exception();
    }
    return result;
  }

  template <class M>
  static link::ticket append(link& self, const char* step, const M& message) {
    return self.out().append(wire::kind::message, [&](byte_buffer& to) {
      const std::size_t start = to.size();
      put(to, message);
      self.check_size(step, number_of<M>, to.size() - start);
    });
  }

  template <class M>
  asio::awaitable<void> send_any(const M& message) {
    if constexpr (std::is_trivially_copyable_v<M> && sizeof(M) <= 256) {
      return send_small<M>(link_, message);
    } else {
      return send_encoded(link_, number_of<M>, encode_now(message));
    }
  }

  // These hold the link and not the channel, which may move or go while they wait.

  template <class M>
  static asio::awaitable<void> send_small(std::shared_ptr<link> self, M message) {
    open(self, "send").check_sendable("send", number_of<M>);
    const auto ticket = append(*self, "send", message);
    self->flush_now();
    if (self->out().completed() < ticket) co_await link::written(self, "send", ticket, true);
  }

  static asio::awaitable<void> send_encoded(std::shared_ptr<link> self, std::size_t type, encoded message) {
    open(self, "send").check_sendable("send", type);
    if (message.failure) std::rethrow_exception(message.failure);
    self->check_size("send", type, message.bytes.size());
    const auto ticket = self->out().append(wire::kind::message, std::move(message.bytes));
    self->flush_now();
    if (self->out().completed() < ticket) co_await link::written(self, "send", ticket, true);
  }

  static asio::awaitable<void> flush_link(std::shared_ptr<link> self) {
    open(self, "flush").flush_now();
    const auto last = self->out().mark();
    if (self->out().completed() < last) co_await link::written(self, "flush", last, false);
  }

  static asio::awaitable<void> disconnect_link(std::shared_ptr<link> self) {
    open(self, "disconnect");
    co_await link::disconnect(self);
  }

  template <bool Give, class Handle>
  static asio::awaitable<void> lease(std::shared_ptr<link> self, std::size_t type, encoded message, Handle& object) {
    open(self, "send_handle");
    if (message.failure) std::rethrow_exception(message.failure);
    using traits = handle_traits<std::remove_cv_t<Handle>>;
    const int fd = traits::get(object);
    if (fd < 0) throw_error("send_handle: the handle is not open", EBADF);
    handle_kind kind = traits::kind;
    if constexpr (std::is_same_v<std::remove_cv_t<Handle>, any_handle>) {
      kind = object.kind();
    } else if (kind == handle_kind::descriptor) {
      kind = kind_of(fd);
    }
    co_await link::lease(std::move(self), type, kind, fd, std::move(message.bytes));
    if constexpr (Give) const descriptor closing = traits::release(object);
  }

  static asio::awaitable<std::optional<In>> receive_message(std::shared_ptr<link> self) {
    if (!open(self, "receive").in().has_message()) co_await link::wait_message(self);
    std::optional<In> result;
    if (!self->in().has_message()) {
      self->check_end("receive");
      co_return result;
    }
    take(*self, self->in().message_data(), self->in().message_size(), result, [&] { self->pop_message(); });
    co_return result;
  }

  static asio::awaitable<std::optional<received<In>>> receive_lease(std::shared_ptr<link> self) {
    auto& leases = open(self, "receive_handle").in().leases;
    if (leases.empty()) co_await link::wait_lease(self);
    std::optional<received<In>> result;
    if (leases.empty()) {
      self->check_end("receive_handle");
      co_return result;
    }
    detail::arrived_lease lease = self->pop_lease();
    std::optional<In> message;
    try {
      take(*self, lease.message.data(), lease.message.size(), message, [] {});
    } catch (const std::system_error& error) {
      if (error.code() == errc::unknown_message) self->refuse(lease.id, wire::refusal::unknown);
      throw;
    }
    self->adopt(lease.id);
    result.emplace(received<In>{std::move(*message), any_handle(lease.kind, std::move(lease.fd))});
    co_return result;
  }

  /// Decodes a message into `result` and calls `done`, also for one that is not known here.
  template <class Done>
  static void take(link& self, const char* data, std::size_t size, std::optional<In>& result, Done done) {
    const std::size_t number = wire::load(data, 2);
    const auto& types = self.agreed().incoming;
    if (number >= types.size()) {
      self.reject(std::make_exception_ptr(
          std::system_error(make_error_code(errc::malformed), "receive: message of type " + std::to_string(number))));
    }
    if (types[number] < 0) {
      done();
      throw_error("receive: " + self.peer_hello()->sends[number].name, errc::unknown_message);
    }
    try {
      incoming::decode(static_cast<std::size_t>(types[number]), data + 2, size - 2, result);
    } catch (...) {  // a codec of the user's may throw anything, and the message must not stand in the way for ever
      self.reject(std::current_exception());
    }
    done();
  }

  std::shared_ptr<link> link_;
};

}  // namespace cohort
