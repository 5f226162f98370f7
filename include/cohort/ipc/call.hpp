// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "../core/asio.hpp"
#include "../core/error.hpp"
#include "../core/event.hpp"
#include "../core/task_group.hpp"
#include "transport/encoded_message.hpp"
#include "transport/take_message.hpp"
#include "transport/frame.hpp"
#include "transport/link.hpp"
#include "codec/schema.hpp"

namespace cohort {
namespace detail {

template <class Out, class In>
struct calls;

/// Says what a message is in a call, in the bytes that were left for it in front.
inline void put_envelope(encoded_message& message, wire::envelope what, std::uint64_t id) noexcept {
  if (message.failure) return;
  wire::store(message.bytes.data(), static_cast<std::uint16_t>(what), 2);
  wire::store(message.bytes.data() + 2, id, 8);
}

/// Calls `f` with the message itself or, if it is a variant, with the alternative in it.
template <class M, class F>
decltype(auto) with_alternative(M&& message, F&& f) {
  if constexpr (message_set<std::remove_cvref_t<M>>::is_single) {
    return f(std::forward<M>(message));
  } else {
    return std::visit(f, std::forward<M>(message));
  }
}

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

  caller(std::shared_ptr<link> self, std::uint64_t id) : link_(std::move(self)), id_(id) {}

  template <class M>
  asio::awaitable<void> send(wire::envelope what, const M& message) {
    static_assert(message_set<Out>::template contains<M>, "a call is answered with a message that this side sends");
    constexpr std::size_t type = message_set<Out>::template index_of<M>;
    auto encoded = detail::encode_now(wire::envelope_size, type, message);
    detail::put_envelope(encoded, what, id_);
    return link::send(link_, "answer", type, std::move(encoded), true);
  }

  // Does not wait: it is the last word of a handler that may have been cancelled.
  void fail(wire::call_failure why, std::string_view text) {
    if (!link_->is_writable()) return;
    detail::encoded_message failure;
    failure.bytes.grow(wire::envelope_size);
    detail::put_envelope(failure, wire::envelope::failure, id_);
    *failure.bytes.grow(1) = static_cast<char>(why);
    text = text.substr(0, 4096);
    std::memcpy(failure.bytes.grow(text.size()), text.data(), text.size());
    link_->out().append(wire::kind::message, std::move(failure.bytes));
    link_->flush_soon();
  }

  std::shared_ptr<link> link_;
  std::uint64_t id_;
};

namespace detail {

/// Both ends of calls over a link whose side here sends Out and receives In.
template <class Out, class In>
struct calls {
  /// Takes itself out of the book again, and drops what nobody has looked at.
  class pending {
   public:
    explicit pending(link& owner) : owner_(owner), state(owner.get_executor()) { owner_.calls().enter(state); }
    pending(const pending&) = delete;
    ~pending() {
      owner_.calls().remove(state);
      for (auto& each : state.answers) owner_.drop(each.content);
    }

   private:
    link& owner_;

   public:
    call_book::waiting state;
  };

  struct dropped {
    link& owner;
    inbox::stored& content;
    ~dropped() { owner.drop(content); }
  };

  template <class Reply, class Progress>
  static asio::awaitable<Reply> call(std::shared_ptr<link> self, std::size_t type, encoded_message question,
                                     Progress progress) {
    link::check_open(self, "call");
    self->check_sendable("call", type);
    if (question.failure) std::rethrow_exception(question.failure);
    self->check_size("call", type, question.bytes.size());
    pending mine(*self);
    put_envelope(question, wire::envelope::request, mine.state.id);
    const auto sent = self->out().append(wire::kind::message, std::move(question.bytes));
    self->flush_soon();  // with the other questions of this turn
    for (;;) {
      try {
        co_await link::wait_answer(self, mine.state);
      } catch (const std::system_error&) {
        if (mine.state.answers.empty()) {
          give_up(*self, sent, mine.state.id);
          throw;
        }
      }
      if (mine.state.answers.empty()) {
        self->check_end("call");
        throw_error("call", errc::peer_closed);
      }
      call_book::answer answer = std::move(mine.state.answers.front());
      mine.state.answers.pop_front();
      const dropped after{*self, answer.content};
      const char* const inside = answer.content.data + wire::envelope_size;
      const std::size_t size = answer.content.size - wire::envelope_size;
      if (answer.what == wire::envelope::failure) throw_failure(inside, size);
      auto message = take_message<In>(*self, "call", inside, size);
      if (answer.what == wire::envelope::progress) {
        with_alternative(std::move(*message), [&progress]<class M>(M&& how_far) {
          if constexpr (std::invocable<Progress&, M&&>) progress(std::forward<M>(how_far));
        });
        continue;
      }
      if constexpr (std::is_same_v<Reply, In>) {
        co_return std::move(*message);
      } else {
        if (Reply* const reply = std::get_if<Reply>(&*message)) co_return std::move(*reply);
        throw_error(fmt::format("call: wanted {}, was answered with {}", type_name<Reply>(),
                                message_set<In>::names[message->index()]),
                    errc::schema_mismatch);
      }
    }
  }

  /// Answers with `handler` what the peer asks, each request in a coroutine of its own.
  template <class Handler>
  static asio::awaitable<void> serve(std::shared_ptr<link> self, Handler handler) {
    link::check_open(self, "serve_calls");
    task_group running(self->get_executor());
    event room(self->get_executor());
    std::exception_ptr failure;
    try {
      for (;;) {
        while (running.size() >= self->options().max_calls) co_await room.wait();
        if (self->in().requests.empty()) co_await link::wait_request(self);
        if (self->in().requests.empty()) break;
        inbox::stored request = std::move(self->in().requests.front());
        self->in().requests.pop_front();
        const dropped after{*self, request};
        const std::uint64_t id = wire::load(request.data + 2, 8);
        caller<Out> who(self, id);
        auto work = begin(*self, who, request, handler);
        const auto cancel = running.start(std::move(work), [self, id, &room](std::exception_ptr) {
          self->calls().end_answer(id);
          room.notify();
        });
        self->calls().begin_answer(id, cancel);
      }
      self->check_end("serve_calls");
    } catch (...) {
      failure = std::current_exception();
    }
    // The answers under way use what is here.
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    if (failure || !self->is_writable()) running.cancel();
    co_await running.wait_empty();
    if (failure) std::rethrow_exception(failure);
  }

 private:
  static void give_up(link& self, link::ticket sent, std::uint64_t id) {
    if (!self.is_open() || self.messages_ended() || self.out().withdraw(sent)) return;
    encoded_message cancel;
    cancel.bytes.grow(wire::envelope_size);
    put_envelope(cancel, wire::envelope::cancel, id);
    self.out().append(wire::kind::message, std::move(cancel.bytes));
    self.flush_soon();
  }

  [[noreturn]] static void throw_failure(const char* data, std::size_t size) {
    const std::string text(data + 1, size - 1);
    if (static_cast<wire::call_failure>(*data) == wire::call_failure::unknown) {
      throw_error("call: " + text, errc::unknown_message);
    }
    throw_error("call: " + text, errc::call_failed);
  }

  template <class Handler>
  static asio::awaitable<void> begin(link& self, const caller<Out>& who, const inbox::stored& request,
                                     Handler& handler) {
    const char* const inside = request.data + wire::envelope_size;
    std::optional<In> message;
    try {
      message = take_message<In>(self, "serve_calls", inside, request.size - wire::envelope_size);
    } catch (const std::system_error& error) {
      if (error.code() != errc::unknown_message) throw;
      return refuse(who, "nothing here knows this type of request");
    }
    return with_alternative(std::move(*message), [&]<class M>(M&& question) {
      using message_type = std::remove_cvref_t<M>;
      if constexpr (std::invocable<Handler&, message_type, caller<Out>&> ||
                    std::invocable<Handler&, message_type>) {
        return answer<Handler, message_type>(who, handler, std::move(question));
      } else {
        return refuse(who, fmt::format("nothing here answers {}", type_name<message_type>()));
      }
    });
  }

  static asio::awaitable<void> refuse(caller<Out> who, std::string text) {
    who.fail(wire::call_failure::unknown, text);
    co_return;
  }

  template <class Handler, class M>
  static asio::awaitable<void> answer(caller<Out> who, Handler& handler, M question) {
    try {
      if constexpr (std::invocable<Handler&, M, caller<Out>&>) {
        const auto reply = co_await handler(std::move(question), who);
        co_await who.send(wire::envelope::reply, reply);
      } else {
        const auto reply = co_await handler(std::move(question));
        co_await who.send(wire::envelope::reply, reply);
      }
    } catch (const std::exception& error) {
      who.fail(wire::call_failure::thrown, error.what());
    } catch (...) {
      who.fail(wire::call_failure::thrown, "an exception that is no std::exception");
    }
  }
};

}  // namespace detail
}  // namespace cohort
