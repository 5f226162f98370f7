// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <exception>
#include <vector>

#include "../codec/byte_buffer.hpp"
#include "../codec/codec.hpp"
#include "frame.hpp"

namespace cohort::detail {

/// What has been encoded before an operation starts, or why that has failed, which the operation throws.
struct encoded_message {
  byte_buffer bytes;
  borrowed_ranges borrowed;  // parts that the owner of the message lends
  std::vector<int> handles;  // the owner of the message owns them
  std::exception_ptr failure;

  /// What it takes on the wire.
  std::size_t size() const noexcept { return bytes.size() + borrowed.bytes(); }
};

/// Puts u16 type and encoding behind what `to` holds. Handles in the message are added to `handles`; without that, a
/// message that has any is refused. Large parts of the message stay where they lie, and are noted in `borrowed`, if
/// that is given.
template <class M>
void put_message(byte_buffer& to, std::size_t type, const M& message, std::vector<int>* handles = nullptr,
                 borrowed_ranges* borrowed = nullptr) {
  wire::store(to.grow(2), type, 2);
  encode(to, message, handles, borrowed);
}

/// Encodes behind `head` bytes for others to fill.
template <class M>
encoded_message encode_now(std::size_t head, std::size_t type, const M& message, bool with_handles = false) noexcept {
  encoded_message result;
  try {
    result.bytes.grow(head);
    put_message(result.bytes, type, message, with_handles ? &result.handles : nullptr);
  } catch (...) {
    result.failure = std::current_exception();
  }
  return result;
}

/// Encodes a message that its owner lends until it is sent: large parts of it stay where they lie. Not so those of a
/// message with handles, which is small.
template <class M>
encoded_message encode_lent(std::size_t type, const M& message) noexcept {
  encoded_message result;
  try {
    put_message(result.bytes, type, message, &result.handles, &result.borrowed);
  } catch (...) {
    result.failure = std::current_exception();
  }
  if (!result.handles.empty() && !result.borrowed.empty()) return encode_now(0, type, message, true);
  return result;
}

}  // namespace cohort::detail
