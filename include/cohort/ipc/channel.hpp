// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "../core/asio.hpp"
#include "../core/descriptor.hpp"
#include "../core/error.hpp"
#include "../core/safe_in_await.hpp"
#include "../core/task_group.hpp"
#include "call.hpp"
#include "channel_options.hpp"
#include "channel_pair.hpp"
#include "codec/byte_buffer.hpp"
#include "codec/schema.hpp"
#include "handle.hpp"
#include "loan.hpp"
#include "transport/encoded_message.hpp"
#include "transport/link.hpp"
#include "transport/receiving.hpp"
#include "transport/send_handles.hpp"
#include "transport/sending.hpp"
#include "transport/take_message.hpp"

namespace cohort {

/// Typed messages and handles between two processes.
///
/// `Out` is what this side sends and `In` what it receives: one type, or a std::variant of several. Messages arrive
/// whole, in order and once; handles among themselves likewise. Any number of coroutines may use one channel on one
/// strand. An operation that waits holds what it needs: the channel may be moved meanwhile, or destroyed, which ends it
/// with operation_aborted or errc::closed. Everything that this side has queued goes out only if it calls disconnect()
/// or flush() before it destroys the channel.
///
/// The executor must be a strand or have one thread, and the coroutines that use the channel must run on it. A bare
/// asio::thread_pool of several threads is refused with EINVAL; an io_context that several threads run cannot be told
/// from one that a single thread runs, and is a data race.
///
/// Every operation throws what breaks the channel: errc::malformed, message_too_large (the peer sends what it may not;
/// the channel is closed), schema_mismatch (both sides have a single type, and not the same).
///
/// Distinct objects: safe. Shared objects: unsafe.
template <class Out, class In>
class channel {
  using outgoing = message_set<Out>;
  using incoming = message_set<In>;
  using sending = detail::sending<Out>;

 public:
  /// No channel: every operation throws errc::closed.
  channel() = default;

  /// Takes the connected AF_UNIX stream socket that the peer's channel has the other end of, and sends the hello, for
  /// which nobody waits.
  channel(asio::any_io_executor executor, descriptor socket, const channel_options& options = {})
      : link_(
            link::open(std::move(executor), std::move(socket), options, message_table_of<Out>, message_table_of<In>)) {
    static_assert(outgoing::size <= max_announced && incoming::size <= max_announced,
                  "cohort: more than 1024 message types in one direction");
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

  /// Whether the peer's hello has been read: it is a program that speaks this library's protocol.
  bool has_greeted() const noexcept { return link_ && link_->peer_hello().has_value(); }

  /// The socket, still the channel's.
  int native_handle() { return open("native_handle").native_handle(); }

  /// Sends a message. Completes when the kernel has the whole of it; suspends only while the peer does not read.
  ///
  /// Throws errc::peer_closed, unknown_message (the peer's program does not know this type), message_too_large, closed.
  /// Cancelling sends none of it and throws operation_aborted, or, if it had begun, sends the whole and returns.
  ///
  /// Strings, vectors and arrays of 32 KiB and more in an lvalue are not copied but written from where they lie: such a
  /// message must outlive the operation, and stay as it is meanwhile. Others are encoded before this returns: an rvalue
  /// and a small message need not outlive the call. A cancelled send that had begun copies what is left first.
  ///
  /// A message with handles in it (see `handle`) goes by the rules of send_handle(): this completes when the peer's
  /// receive() has returned it, an rvalue is given away and an lvalue shared, and if it throws, the message is as it
  /// was. It must outlive the operation, hold 253 handles at most and be encoded in 128 KiB. (Before GCC 13, which does
  /// not let an rvalue of a struct through here: send it as an lvalue, and let go of it afterwards.)
  template <class M>
    requires(outgoing::template contains<std::remove_cvref_t<M>>)
  [[nodiscard]] asio::awaitable<void> send(M&& message) {
    static_assert(detail::safe_in_await<M&&>,
                  "GCC before 13 would destroy this message twice inside co_await: "
                  "name it first (job j{1, \"x\"}; co_await ch.send(j);) "
                  "or let it be made inside (co_await ch.send<job>(1, \"x\");)");
    return sending::template any<!std::is_lvalue_reference_v<M>>(link_, message);
  }

  /// Makes an M of `arguments` and sends it: `co_await ch.send<job>(1, "x")`. Not for one with handles, which would
  /// have nowhere to go if it failed: EINVAL.
  template <class M, class... Arguments>
    requires(outgoing::template contains<M> && !std::is_reference_v<M>)
  [[nodiscard]] asio::awaitable<void> send(Arguments&&... arguments) {
    const M message = detail::make_message<M>(std::forward<Arguments>(arguments)...);
    return sending::template plain<false>(link_, message);
  }

  /// Sends all messages of a range, as many in one write as fit. Suspends while the peer does not read; no more than
  /// `high_water` bytes wait here then. Returns how many have been sent, which are all.
  ///
  /// Throws as send() does; those before the one that it is about have been sent. Cancelling takes back what has not
  /// begun, and returns how many are sent all the same, or throws operation_aborted if that is none. The range must
  /// outlive the operation.
  template <std::ranges::input_range Range>
    requires(outgoing::template contains<std::ranges::range_value_t<Range>>)
  [[nodiscard]] asio::awaitable<std::size_t> send_many(Range&& messages) {
    return sending::range(link_, messages);
  }

  /// Queues a message and returns at once; what a turn of the loop queues goes out together at its end.
  ///
  /// False when more than `high_water` bytes wait already: the message is not queued. Throws as send() does.
  template <class M>
    requires(outgoing::template contains<M>)
  bool post(const M& message) {
    link& self = open("post");
    self.check_sendable("post", number_of<M>);
    if (!self.has_room_to_post()) return false;
    sending::append(self, "post", message);
    self.flush_posted();
    return true;
  }

  template <class M, class... Arguments>
    requires(outgoing::template contains<M>)
  bool post(std::in_place_type_t<M>, Arguments&&... arguments) {
    const M message = detail::make_message<M>(std::forward<Arguments>(arguments)...);
    return post(message);
  }

  /// Queues a message as post() does, for a peer that may be gone: false, and nothing is thrown, when this side has
  /// closed or disconnected the channel, the channel is broken, the peer is gone, or its program does not know this
  /// type.
  ///
  /// False as well when more than `high_water` bytes wait already. Throws message_too_large, and what the message's
  /// codec throws.
  template <class M>
    requires(outgoing::template contains<M>)
  bool post_if_open(const M& message) {
    return link_ && link_->is_sendable(number_of<M>) && post(message);
  }

  /// Waits until the kernel has everything that was queued before. Throws as send() does; cancelling changes nothing.
  [[nodiscard]] asio::awaitable<void> flush() { return link::flush(link_); }

  /// Takes the next message; empty when the peer has disconnected or is gone and everything it had sent has been taken.
  ///
  /// Does not suspend while messages that have been read are left. Throws errc::peer_closed when the peer died in the
  /// middle of a message, errc::unknown_message for one that this program does not know (the next can be received).
  /// Cancelling throws operation_aborted and leaves the message for the next call.
  [[nodiscard]] asio::awaitable<std::optional<In>> receive() { return detail::receiving<In>::one(link_); }

  /// Takes the next message as receive() does, into an object that keeps its memory: what strings and vectors in it
  /// have allocated is used again, at any depth, where it holds the same alternative of a variant. False when the peer
  /// has disconnected or is gone and everything it had sent has been taken; `into` is untouched then.
  ///
  /// A large string or vector (32 KiB and more) that only members of fixed size stand before is read from the socket to
  /// where it belongs: no copy, and no fresh memory. So this is the way to receive many large messages. Maps and sets
  /// are filled anew.
  ///
  /// `into` must outlive the operation, and is nobody else's meanwhile. If this throws, it has any value; cancelling
  /// leaves the message for the next call.
  [[nodiscard]] asio::awaitable<bool> receive_into(In& into) { return detail::receiving<In>::into(link_, into); }

  /// Waits for a message, and takes it with all that have been read: `most` at most, into `messages`, whose elements
  /// keep their memory as in receive_into(). Returns how many, which are all that `messages` holds then: 0 only when
  /// the peer has disconnected or is gone and everything it had sent has been taken.
  ///
  /// One resumption for many small messages, for a loop that takes them as fast as they come. Throws as receive() does,
  /// when the message that it is about is the first: those before it are returned by an earlier call. `messages` must
  /// outlive the operation. Cancelling throws operation_aborted and leaves all messages for the next call.
  [[nodiscard]] asio::awaitable<std::size_t> receive_many(std::vector<In>& messages, std::size_t most) {
    return detail::receiving<In>::many(link_, messages, most);
  }

  /// Asks the peer something, and waits for its answer: `const auto r = co_await ch.call<result>(question);`.
  ///
  /// Many calls may be under way at once; answers may come in any order. `Reply` is a type that this side receives, or
  /// In itself if any of them will do. `progress(message)` is called with each word about how far the work is, if it
  /// takes messages of that type. Nothing here limits the time: with_timeout() does.
  ///
  /// Throws as send() does, and errc::call_failed with the text of what the peer's handler threw, errc::unknown_message
  /// if nothing there answers such a question, errc::schema_mismatch for an answer of another type, errc::peer_closed
  /// if the peer closes or dies first. Cancelling throws operation_aborted; the peer is told, and cancels its handler.
  template <class Reply, class M, class Progress = std::monostate>
    requires(outgoing::template contains<M> && (incoming::template contains<Reply> || std::is_same_v<Reply, In>))
  [[nodiscard]] asio::awaitable<Reply> call(const M& question, Progress&& progress = {}) {
    static_assert(detail::safe_callable_in_await<Progress&&>,
                  "GCC before 13 would destroy this function's captures twice inside co_await: name it first "
                  "(auto heard = [text](step s) { ... }; co_await ch.call<reply>(question, heard);)");
    return detail::calls<Out, In>::template call<Reply, std::decay_t<Progress>>(
        link_, number_of<M>, detail::encode_now(wire::envelope_size, number_of<M>, question),
        std::forward<Progress>(progress));
  }

  /// Answers the peer's calls until it disconnects or is gone; one coroutine at a time does this.
  ///
  /// `handler(question)` or `handler(question, cohort::caller<Out>& who)` returns an awaitable of the answer, which is
  /// a type that this side sends. It may be overloaded for several types of questions; those that it does not take are
  /// refused. Each question is answered in a coroutine of its own, `max_calls` of them at a time. What it throws is
  /// told to the caller, whose cancellation cancels it.
  ///
  /// Returns when the answers under way are sent. Throws as receive() does; cancelling throws operation_aborted. In
  /// both cases the answers under way are cancelled, and their callers told so.
  template <class Handler>
  [[nodiscard]] asio::awaitable<void> serve_calls(Handler&& handler) {
    static_assert(detail::safe_callable_in_await<Handler&&>,
                  "GCC before 13 would destroy this handler's members twice inside co_await: name it first "
                  "(auto answer = [state](question q) { ... }; co_await ch.serve_calls(answer);)");
    return detail::calls<Out, In>::serve(link_,
                                         std::make_shared<std::decay_t<Handler>>(std::forward<Handler>(handler)));
  }

  /// Has whoever waits for input here look for it again and again for so long, before it sleeps. Off at first, and 0
  /// turns it off.
  ///
  /// A sleeper on another core takes 30 us and more to wake up on a virtual machine; who polls has the message in a
  /// few. The price is the processor: the loop does nothing else meanwhile, so this is for a peer whose answer is a
  /// matter of microseconds, on a machine with a core for each of the two. Not for servers with many connections on the
  /// loop, and not where both sides share a core, which makes each wait for the other.
  void poll_for(std::chrono::nanoseconds time) { open("poll_for").poll_for(time); }

  /// Hands `object` (a socket, an acceptor, a descriptor: see handle_traits) to the peer with a message, and completes
  /// when the peer's receive_handle() has returned it.
  ///
  /// An rvalue is given away: it is closed here then, and not before. An lvalue is shared. If this throws, `object` is
  /// still the caller's, open as it was: errc::peer_closed (the peer died or closed before it took it), handle_refused,
  /// handle_lost (its descriptor table is full), wrong_handle_kind, unknown_message, message_too_large, or the errno of
  /// a descriptor that the kernel does not pass (EINVAL for an io_uring); the channel and other handles go on.
  /// Cancelling throws operation_aborted and tells the peer to drop the handle; a peer that takes it before it hears of
  /// that has it too, as if it had been shared. The object must outlive the operation and not be closed meanwhile; many
  /// may be under way at once (`max_leases`).
  template <class M, class Handle>
    requires(outgoing::template contains<std::remove_cvref_t<M>>)
  [[nodiscard]] asio::awaitable<void> send_handle(M&& message, Handle&& object) {
    static_assert(detail::safe_in_await<M&&>,
                  "GCC before 13 would destroy this message twice inside co_await: name it first");
    constexpr bool give = !std::is_lvalue_reference_v<Handle>;
    constexpr std::size_t type = number_of<std::remove_cvref_t<M>>;
    return detail::send_handle(link_, type, detail::encode_now(detail::lease_head, type, message),
                               detail::handle_ref(object, give));
  }

  /// Gives away many at once, each with the same message: `objects` is a range of them, an lvalue.
  ///
  /// Returns for each what became of it: no error, and it is closed here, or what send_handle() would have thrown, and
  /// it is still the caller's. `ended` hears the same of each as soon as it is known. Cancelling ends those that have
  /// not been taken, with operation_aborted for each, and returns.
  template <class M, std::ranges::forward_range Range>
    requires(outgoing::template contains<M>)
  [[nodiscard]] asio::awaitable<std::vector<std::error_code>> send_handles(const M& message, Range& objects,
                                                                           handle_ended ended = {}) {
    std::vector<detail::handle_ref> refs;
    for (auto& each : objects) refs.emplace_back(each, true);
    return detail::send_handles(link_, number_of<M>, detail::encode_now(detail::lease_head, number_of<M>, message),
                                std::move(refs), std::move(ended));
  }

  /// Takes the next message that came with a handle; empty when none will come. This is what tells the sender that the
  /// handle has been taken over: the word leaves with this turn of the loop, or as soon as the sender reads again. A
  /// channel that is closed before takes it along, and the sender keeps the handle too; flush() waits for it.
  ///
  /// Otherwise as receive(). Cancelling leaves the handle for the next call.
  [[nodiscard]] asio::awaitable<std::optional<received<In>>> receive_handle() {
    return detail::receiving<In>::lease(link_);
  }

  /// Gives back the handles that have arrived and not been taken, and those that still come: their senders get
  /// errc::handle_refused and keep them. They are read, and so given back, while somebody waits for input here.
  void decline_handles() { open("decline_handles").decline_leases(); }

  /// Waits for memory of this side's pool (`loan_pool` bytes, which the peer maps) for `count` elements of a trivially
  /// copyable type: to be filled, and sent with a message by a number, at any size. The first loan makes the pool.
  ///
  /// Suspends while the pool has no room, or `max_loans` are out; those who wait come in order. Reads meanwhile, or it
  /// would not hear what the peer gives back. Throws errc::message_too_large, with both sizes, for more than the whole
  /// pool, errc::peer_closed, errc::closed, and what the system says of the memory. Cancelling takes nothing.
  template <class T>
  [[nodiscard]] asio::awaitable<cohort::loan<T>> loan(std::size_t count) {
    return sending::template loan<T>(link_, count);
  }

  /// Sends a message and, with it, a loan, which is empty then: the peer's receive_loan() returns both. Completes, and
  /// throws, as the plain send() of a message does. If it throws, `what` is the caller's again, and as it was; it must
  /// outlive the operation. EINVAL: it is empty or of another channel. The message has no handles, and is encoded in
  /// 128 KiB. A peer that dies, or an ended channel, keeps nothing.
  template <class M, class T>
    requires(outgoing::template contains<std::remove_cvref_t<M>>)
  [[nodiscard]] asio::awaitable<void> send(M&& message, cohort::loan<T>&& what) {
    static_assert(detail::safe_in_await<M&&>,
                  "GCC before 13 would destroy this message twice inside co_await: name it first");
    constexpr std::size_t type = number_of<std::remove_cvref_t<M>>;
    const std::size_t count = what.size();
    return link::send_loan(link_, type, detail::encode_now(detail::loan_head, type, message), what.piece(), count,
                           detail::loan_type_of<T>);
  }

  /// Takes the next message that came with a loan; empty when none will come. Loans arrive in order among themselves.
  ///
  /// The view reads the peer's memory, and gives it back when it goes; see loan_view. Throws errc::schema_mismatch for
  /// elements that are no T, by name and size, and gives them back; the channel goes on, as is_open() says, which it
  /// does not where the peer's hello has the same error. Otherwise as receive(). Cancelling leaves the loan for the
  /// next call.
  template <class T>
  [[nodiscard]] asio::awaitable<std::optional<received_loan<In, T>>> receive_loan() {
    return detail::receiving<In>::template loan<T>(link_);
  }

  /// Ends this side's messages: everything queued goes out, and then the peer's receive() is empty. Receiving goes on.
  ///
  /// Completes when the kernel has it all, also when the peer is gone. Cancelling leaves it to go out by itself.
  [[nodiscard]] asio::awaitable<void> disconnect() { return link::disconnect(link_); }

  /// Closes at once, as the destructor does. What waits here ends with operation_aborted or errc::closed, what has not
  /// been written is dropped, and handles that arrived and were not taken go back to the peer. A handle that is under
  /// way is the caller's again; as after a cancellation, the peer may have it too.
  void close() noexcept {
    if (link_) link_->close();
  }

 protected:
  /// What the operations hold; null for no channel.
  const std::shared_ptr<link>& shared_link() const noexcept { return link_; }

 private:
  template <class M>
  static constexpr std::size_t number_of = outgoing::template index_of<M>;

  link& open(const char* step) {
    link::check_open(link_, step);
    return *link_;
  }

  std::shared_ptr<link> link_;
};

}  // namespace cohort
