// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "calls.hpp"

#include "../../core/config.hpp"

#include <cstring>
#include <exception>
#include <system_error>
#include <utility>

#include "../../core/asio_error.hpp"
#include "../../core/error.hpp"
#include "../../core/event.hpp"
#include "../../core/scope.hpp"
#include "../../core/task_group.hpp"
#include "../../core/text_of.hpp"
#include "link.hpp"

namespace cohort::detail {

COHORT_INLINE void put_envelope(encoded_message& message, wire::envelope what, std::uint64_t id) noexcept {
  if (message.failure) return;
  wire::store(message.bytes.data(), static_cast<std::uint16_t>(what), 2);
  wire::store(message.bytes.data() + 2, id, 8);
}

/// A call in the book of its link: takes itself out of it again, and drops the answers that nobody has looked at.
class pending_call {
 public:
  explicit pending_call(link& owner) : owner_(owner), state(owner.get_executor()) { owner_.calls().enter(state); }
  pending_call(const pending_call&) = delete;
  ~pending_call() {
    owner_.calls().remove(state);
    for (auto& each : state.answers) owner_.drop(each.content);
  }

 private:
  link& owner_;

 public:
  call_book::waiting state;
};

[[noreturn]] COHORT_INLINE void throw_call_failure(const char* data, std::size_t size) {
  const std::string text = "call: " + std::string(data + 1, size - 1);
  const bool unknown = static_cast<wire::call_failure>(*data) == wire::call_failure::unknown;
  throw_error(text, unknown ? errc::unknown_message : errc::call_failed);
}

/// Takes the question back, or tells the peer that nobody waits for the answer.
COHORT_INLINE void give_up_call(link& self, outbox::ticket sent, std::uint64_t id) {
  if (!self.is_open() || self.messages_ended() || self.out().withdraw(sent)) return;
  encoded_message cancel;
  cancel.bytes.grow(wire::envelope_size);
  put_envelope(cancel, wire::envelope::cancel, id);
  self.out().append(wire::kind::message, std::move(cancel.bytes));
  self.flush_soon();
}

COHORT_INLINE asio::awaitable<void> call(std::shared_ptr<link> self, std::size_t type, encoded_message question,
                                         message_slot answer, std::function<void()> progress) {
  link::check_open(self, "call");
  self->check_sendable("call", type);
  if (question.failure) std::rethrow_exception(question.failure);
  self->check_size("call", type, question.bytes.size());
  pending_call mine(*self);
  put_envelope(question, wire::envelope::request, mine.state.id);
  const auto sent = self->out().append(wire::kind::message, std::move(question.bytes));
  self->flush_soon();  // with the other questions of this turn
  for (;;) {
    try {
      co_await link::wait_answer(self, mine.state);
    } catch (...) {
      caught();
      if (mine.state.answers.empty()) {
        give_up_call(*self, sent, mine.state.id);
        throw;
      }
    }
    if (mine.state.answers.empty()) {
      self->check_end("call");
      throw_error("call", errc::peer_closed);
    }
    call_book::answer came = std::move(mine.state.answers.front());
    mine.state.answers.pop_front();
    const on_exit drops([&] { self->drop(came.content); });
    const char* const inside = came.content.data + wire::envelope_size;
    const std::size_t size = came.content.size - wire::envelope_size;
    if (came.what == wire::envelope::failure) throw_call_failure(inside, size);
    take_message(*self, "call", inside, size, answer);
    if (came.what == wire::envelope::reply) co_return;
    if (progress) progress();
  }
}

COHORT_INLINE void fail_answer(std::string_view wanted, std::string_view got) {
  throw_error(std::string("call: wanted ").append(wanted).append(", was answered with ").append(got),
              errc::schema_mismatch);
}

COHORT_INLINE call_origin::call_origin(std::shared_ptr<link> self, std::uint64_t id) noexcept
    : link_(std::move(self)), id_(id) {}

COHORT_INLINE call_origin::~call_origin() = default;

COHORT_INLINE asio::awaitable<void> call_origin::send(wire::envelope what, std::size_t type,
                                                      encoded_message message) const {
  put_envelope(message, what, id_);
  return link::send(link_, "answer", type, std::move(message), true);
}

COHORT_INLINE std::uint64_t call_origin::append_failure(wire::call_failure why, std::string_view text) const {
  encoded_message failure;
  failure.bytes.grow(wire::envelope_size);
  put_envelope(failure, wire::envelope::failure, id_);
  *failure.bytes.grow(1) = static_cast<char>(why);
  text = text.substr(0, 4096);
  std::memcpy(failure.bytes.grow(text.size()), text.data(), text.size());
  const auto sent = link_->out().append(wire::kind::message, std::move(failure.bytes));
  link_->flush_soon();
  return sent;
}

COHORT_INLINE asio::awaitable<void> call_origin::fail(wire::call_failure why, std::string text) const {
  if (!is_awaited()) co_return;
  const auto sent = append_failure(why, text);
  if (link_->out().completed() >= sent) co_return;
  try {
    co_await link::written(link_, "answer", sent, true);
  } catch (...) {
    caught();
    // Taken back. Those who still wait when the answering ends are to be told all the same.
    if (is_awaited()) append_failure(why, text);
  }
}

COHORT_INLINE bool call_origin::is_awaited() const { return link_->is_writable() && !link_->calls().is_cancelled(id_); }

COHORT_INLINE asio::awaitable<void> call_origin::answer(call_origin who, asio::awaitable<void> work) {
  std::exception_ptr thrown;
  try {
    co_await std::move(work);
  } catch (...) {
    thrown = std::current_exception();
  }
  if (!thrown) co_return;
  const auto state = co_await asio::this_coro::cancellation_state;
  if (state.cancelled() == asio::cancellation_type::none) {
    co_await who.fail(wire::call_failure::thrown, text_of(thrown));
  } else if (who.is_awaited()) {  // the answering ends, and nothing can be waited for any more
    who.append_failure(wire::call_failure::thrown, text_of(thrown));
  }
}

COHORT_INLINE asio::awaitable<void> call_origin::refuse(call_origin who, std::string text) {
  co_await who.fail(wire::call_failure::unknown, std::move(text));
}

COHORT_INLINE asio::awaitable<void> serve_calls(std::shared_ptr<link> self, begin_answer begin) {
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
      const on_exit drops([&] { self->drop(request); });
      const std::uint64_t id = wire::load(request.data + 2, 8);
      auto work = begin(call_origin(self, id), request.data + wire::envelope_size, request.size - wire::envelope_size);
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

}  // namespace cohort::detail
