// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

#include "../core/asio.hpp"
#include "../core/error.hpp"
#include "codec/schema.hpp"
#include "transport/calls.hpp"
#include "transport/encoded_message.hpp"
#include "transport/frame.hpp"
#include "transport/take_message.hpp"

namespace cohort {
namespace detail {

template <class Out, class In>
struct calls;

}  // namespace detail

/// Who waits for the answer to a call: what a handler of channel::serve_calls() may take as its second argument.
///
/// Good until the handler has ended. Distinct objects: safe. Shared objects: unsafe.
template <class Out>
class caller {
 public:
  /// Tells the caller how far the work is: one of the messages that this side sends. Suspends while the peer does not
  /// read. Throws as channel::send() does.
  template <class M>
    requires(message_set<Out>::template contains<M>)
  [[nodiscard]] asio::awaitable<void> progress(const M& message) {
    return send(wire::envelope::progress, message);
  }

 private:
  template <class O, class I>
  friend struct detail::calls;

  explicit caller(detail::call_origin who) : origin_(std::move(who)) {}

  template <class M>
  asio::awaitable<void> send(wire::envelope what, const M& message) {
    static_assert(message_set<Out>::template contains<M>, "a call is answered with a message that this side sends");
    constexpr std::size_t type = message_set<Out>::template index_of<M>;
    return origin_.send(what, type, detail::encode_now(wire::envelope_size, type, message));
  }

  detail::call_origin origin_;
};

namespace detail {

/// Calls `f` with the message itself or, if it is a variant, with the alternative in it.
template <class M, class F>
void with_alternative(M&& message, F&& f) {
  using set = std::remove_cvref_t<M>;
  if constexpr (message_set<set>::is_single) {
    f(std::move(message));
  } else {  // what std::visit() makes of it costs more to compile
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      static_cast<void>(((message.index() == I ? (f(std::get<I>(std::move(message))), true) : false) || ...));
    }
    (std::make_index_sequence<message_set<set>::size>());
  }
}

/// Both ends of calls over a link whose side here sends Out and receives In.
template <class Out, class In>
struct calls {
  template <class Reply, class Progress>
  static asio::awaitable<Reply> call(std::shared_ptr<link> self, std::size_t type, encoded_message question,
                                     Progress progress) {
    std::optional<In> message;
    const message_slot slot(message);
    std::function<void()> on_progress;
    if constexpr (!std::is_same_v<Progress, std::monostate>) {
      on_progress = [&] {
        with_alternative(std::move(*message), [&]<class M>(M&& how_far) {
          if constexpr (std::invocable<Progress&, M&&>) progress(std::forward<M>(how_far));
        });
      };
    }
    auto asking = detail::call(std::move(self), type, std::move(question), slot, std::move(on_progress));
    co_await std::move(asking);
    if constexpr (std::is_same_v<Reply, In>) {
      co_return std::move(*message);
    } else {
      if (Reply* const reply = std::get_if<Reply>(&*message)) co_return std::move(*reply);
      fail_answer(type_name<Reply>(), message_set<In>::names[message->index()]);
    }
  }

  /// Answers with `handler` what the peer asks.
  template <class Handler>
  static asio::awaitable<void> serve(std::shared_ptr<link> self, std::shared_ptr<Handler> handler) {
    link* const owner = self.get();
    return serve_calls(std::move(self), [owner, handler](call_origin who, const char* data, std::size_t size) {
      return begin(*owner, std::move(who), data, size, *handler);
    });
  }

 private:
  template <class Handler>
  static asio::awaitable<void> begin(link& self, call_origin who, const char* data, std::size_t size,
                                     Handler& handler) {
    std::optional<In> message;
    try {
      take_message(self, "serve_calls", data, size, message_slot(message));
    } catch (const std::system_error& error) {
      if (error.code() != errc::unknown_message) throw;
      return call_origin::refuse(std::move(who), "nothing here knows this type of request");
    }
    std::optional<asio::awaitable<void>> work;
    with_alternative(std::move(*message), [&]<class M>(M&& question) {
      if constexpr (std::invocable<Handler&, M, caller<Out>&> || std::invocable<Handler&, M>) {
        work.emplace(call_origin::answer(who, answer<Handler, M>(who, handler, std::move(question))));
      } else {
        work.emplace(call_origin::refuse(who, "nothing here answers " + std::string(type_name<M>())));
      }
    });
    return std::move(*work);
  }

  template <class Handler, class M>
  static asio::awaitable<void> answer(call_origin origin, Handler& handler, M question) {
    caller<Out> who(std::move(origin));
    if constexpr (std::invocable<Handler&, M, caller<Out>&>) {
      const auto reply = co_await handler(std::move(question), who);
      co_await who.send(wire::envelope::reply, reply);
    } else {
      const auto reply = co_await handler(std::move(question));
      co_await who.send(wire::envelope::reply, reply);
    }
  }
};

}  // namespace detail
}  // namespace cohort
