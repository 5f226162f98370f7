// SPDX-License-Identifier: BSL-1.0
/// Typed messages among the processes of a cluster.
///
/// A handler, an agent or the primary owns a messenger, for as long as it listens. It runs on the executor of the
/// process's worker or cluster object.
#pragma once

#include <concepts>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "../core/asio.hpp"
#include "../core/safe_in_await.hpp"
#include "../ipc/codec/byte_buffer.hpp"
#include "../ipc/codec/codec.hpp"
#include "../ipc/codec/schema.hpp"
#include "delivery.hpp"
#include "detail/message_client.hpp"

namespace cohort {

/// What becomes of a message at a process where nothing listens to messages of its type.
enum class unheard_policy {
  refuse,  ///< the sender is told: undelivered::unheard
  ignore,  ///< it counts as delivered
};

/// Stands for a listener, for messenger::off().
class subscription {
 public:
  subscription() = default;

 private:
  template <class Messages>
  friend class messenger;

  explicit subscription(std::uint64_t which) : which_(which) {}

  std::uint64_t which_ = 0;
};

/// Messages among the processes of a cluster: workers, agents and the primary.
///
/// `Messages` is what they say: one type, or a std::variant of several, in a header that all of them include.
///
///     using bus = cohort::messenger<std::variant<refresh, invalidate>>;
///
///     bus talk(self);                                        // self: the worker, the agent, or the cluster
///     talk.on<refresh>([&](const refresh& what) { ... });    // or a coroutine
///     const cohort::receipt r = co_await talk.broadcast(what);
///
/// Each send waits until every process that the message is for has handled it, or is known not to, and returns what
/// became of it, process by process: no message is lost unsaid, and none is sent a second time. Messages of one sender
/// come to one receiver in the order in which they were sent; the next one does not wait for the listeners of the one
/// before. The primary takes them from process to process and keeps what a slow receiver has not taken (see
/// delivery_options); with send_directly(), two processes get a channel of their own.
///
/// A process may send at any time; worker::all_ready() waits until all are there. A worker that starts hears what it
/// has a listener for, so that it misses nothing between set_up and its first connection; else the receipt says
/// not_ready.
///
/// Sending throws errc::peer_closed when the primary is gone, and errc::closed. Cancelling throws operation_aborted:
/// who has not got the message does not get it, and listeners that run are cancelled. A listener that waits for an
/// answer of the sender of its message is fine; a circle of processes that all wait for each other with
/// `message_endpoint::window` messages under way is not: set a time limit with with_timeout().
///
/// Distinct objects: safe. Shared objects: unsafe; one process may have several. Its listeners end with it, except one
/// that runs. When the process's worker or cluster object is gone, a messenger may be destroyed and nothing else: so
/// one that set_up makes may be kept in main.
template <class Messages>
class messenger {
  using types = message_set<Messages>;

 public:
  /// For a process: a `worker`, which an agent is too, or the `cluster` in the primary.
  template <class Process>
    requires requires(Process& p) {
      { p.messages() } -> std::same_as<message_endpoint&>;
    }
  explicit messenger(Process& self, unheard_policy unheard = unheard_policy::refuse)
      : client_(self.messages(), unheard == unheard_policy::ignore ? std::span<const std::uint64_t>(types::fingerprints)
                                                                   : std::span<const std::uint64_t>()) {}

  /// This process.
  const member& self() const noexcept { return client_.self(); }

  /// Has messages to one process (a slot, a pid, an agent) go by a channel of the two, which the primary brings about
  /// when it is first used, and in which no other process has a part; those that wait there wait in the sender. The
  /// process is that which was there at first, until it drains or ends. Other messages, and all of the primary's, go
  /// through the primary as before.
  void send_directly(bool on = true) noexcept { client_.send_directly(on); }

  /// Calls `listener(message)` or `listener(message, const member& from)` for each message of type M from now on, in
  /// the order in which listeners were added. It returns nothing, or an awaitable<void>: the next listener waits for
  /// that, and so does the sender; further messages do not. What it throws is told to the sender.
  ///
  /// M is one of the Messages, or agent_gone or agent_back.
  template <class M, class Listener>
  subscription on(Listener listener) {
    return add<M>(std::move(listener), false);
  }

  /// The same, for the next such message only.
  template <class M, class Listener>
  subscription once(Listener listener) {
    return add<M>(std::move(listener), true);
  }

  /// Removes a listener. One that runs comes to its end.
  void off(subscription which) { client_.remove(which.which_); }

  template <class M>
    requires(types::template contains<std::remove_cvref_t<M>>)
  [[nodiscard]] asio::awaitable<receipt> send_to(const recipient& who, M&& message) {
    static_assert(detail::safe_in_await<M&&>,
                  "GCC before 13 would destroy this message twice inside co_await: name it first");
    using message_type = std::remove_cvref_t<M>;
    // Encoded before this returns, so that the message need not outlive the call; what that throws, the operation does.
    byte_buffer bytes;
    std::exception_ptr failure;
    std::string body;
    try {
      encode(bytes, message);
      body = bytes.view();
    } catch (...) {
      failure = std::current_exception();
    }
    return client_.send(who, fingerprint<message_type>(), std::move(body), std::move(failure));
  }

  /// To all workers and agents, this process too if it is one of them.
  template <class M>
  [[nodiscard]] asio::awaitable<receipt> broadcast(M&& message) {
    return send_to(recipient::everyone(), std::forward<M>(message));
  }

  /// To all workers, this one too if it is one.
  template <class M>
  [[nodiscard]] asio::awaitable<receipt> send_to_workers(M&& message) {
    return send_to(recipient::workers(), std::forward<M>(message));
  }

  template <class M>
  [[nodiscard]] asio::awaitable<receipt> send_to_agent(std::string name, M&& message) {
    return send_to(recipient::agent(std::move(name)), std::forward<M>(message));
  }

  /// To one worker that the primary picks; never one that drains.
  template <class M>
  [[nodiscard]] asio::awaitable<receipt> send_random(M&& message) {
    return send_to(recipient::any_worker(), std::forward<M>(message));
  }

  template <class M>
  [[nodiscard]] asio::awaitable<receipt> send_to_primary(M&& message) {
    return send_to(recipient::primary(), std::forward<M>(message));
  }

 private:
  template <class M>
  static constexpr bool can_be_heard =
      types::template contains<M> || std::same_as<M, agent_gone> || std::same_as<M, agent_back>;

  template <class M, class Listener>
  subscription add(Listener listener, bool once) {
    static_assert(can_be_heard<M>, "cohort: not one of this messenger's messages");
    detail::message_client::listener call = [listener = std::make_shared<Listener>(std::move(listener))](
                                                const std::string& body, const member& from) {
      return hear<M>(listener, body, from);
    };
    return subscription(client_.add(fingerprint<M>(), std::move(call), once));
  }

  template <class M, class Listener>
  static asio::awaitable<void> hear(std::shared_ptr<Listener> listener, const std::string& body, const member& from) {
    const M message = decode<M>(body.data(), body.size());
    if constexpr (std::invocable<Listener&, const M&, const member&>) {
      if constexpr (std::is_void_v<std::invoke_result_t<Listener&, const M&, const member&>>) {
        (*listener)(message, from);
      } else {
        co_await (*listener)(message, from);
      }
    } else if constexpr (std::is_void_v<std::invoke_result_t<Listener&, const M&>>) {
      (*listener)(message);
    } else {
      co_await (*listener)(message);
    }
    co_return;
  }

  detail::message_client client_;
};

}  // namespace cohort
