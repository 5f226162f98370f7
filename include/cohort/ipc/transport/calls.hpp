// SPDX-License-Identifier: BSL-1.0
/// Both ends of calls, on encoded messages: what channel::call() and channel::serve_calls() give types to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "../../core/asio.hpp"
#include "encoded_message.hpp"
#include "frame.hpp"
#include "take_message.hpp"

namespace cohort {

class link;

namespace detail {

/// Says what a message is in a call, in the bytes that were left for it in front.
void put_envelope(encoded_message& message, wire::envelope what, std::uint64_t id) noexcept;

/// Sends a question of type number `type`, encoded behind an envelope, and waits until its answer is in the slot.
///
/// Before that, each word about how far the work is comes into the slot, and then `progress()` is called if there is
/// one. Throws and is cancelled as channel::call() is.
asio::awaitable<void> call(std::shared_ptr<link> self, std::size_t type, encoded_message question, message_slot answer,
                           std::function<void()> progress);

/// A message that answers a call is of a type that the caller did not want.
[[noreturn]] void fail_answer(std::string_view wanted, std::string_view got);

/// Who waits for the answer to a call, in the process that answers it.
class call_origin {
 public:
  call_origin(std::shared_ptr<link> self, std::uint64_t id) noexcept;

  call_origin(const call_origin&) = default;
  call_origin(call_origin&&) noexcept = default;
  ~call_origin();

  /// Sends a progress or a reply of type number `type`, encoded behind an envelope.
  asio::awaitable<void> send(wire::envelope what, std::size_t type, encoded_message message) const;

  /// Tells the caller that there will be no answer, and waits until that is written, as a reply does: so what waits for
  /// a peer that does not read is bounded by channel_options::max_calls. Not to a caller that has cancelled.
  asio::awaitable<void> fail(wire::call_failure why, std::string text) const;

  /// A coroutine that does `work`, which ends with the answer, and tells the caller what that throws.
  static asio::awaitable<void> answer(call_origin who, asio::awaitable<void> work);

  /// A coroutine that tells the caller that nothing here answers its question.
  static asio::awaitable<void> refuse(call_origin who, std::string text);

 private:
  /// Whether the caller can be told, and has not cancelled.
  bool is_awaited() const;

  std::uint64_t append_failure(wire::call_failure why, std::string_view text) const;

  std::shared_ptr<link> link_;
  std::uint64_t id_;
};

/// Begins to answer a question (u16 type, encoding): returns the coroutine that does. May throw what breaks the link.
using begin_answer = std::function<asio::awaitable<void>(call_origin who, const char* data, std::size_t size)>;

/// Answers what the peer asks, each question in a coroutine of its own; see channel::serve_calls().
asio::awaitable<void> serve_calls(std::shared_ptr<link> self, begin_answer begin);

}  // namespace detail
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "calls.ipp"
#endif
