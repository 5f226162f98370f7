// SPDX-License-Identifier: BSL-1.0
/// What an inbox reads into, and the messages that lie there.
#pragma once

#include <cstddef>
#include <memory>

#include "../codec/byte_buffer.hpp"
#include "arrived.hpp"

namespace cohort::detail {

/// Bytes that have been read.
struct input_chunk {
  // Holds at least one whole frame behind a partial one, and is what one read can bring.
  static constexpr std::size_t size = 256 * 1024;

  std::unique_ptr<char[]> data{new char[size]};
  std::size_t parsed = 0;
  std::size_t filled = 0;
  std::size_t live = 0;  // messages in it that have not been taken
};

/// A message that lies in an inbox, or the first of several, frame behind frame. To be given to inbox::drop() in the
/// end.
struct stored_message {
  const char* data = nullptr;
  std::size_t size = 0;
  std::size_t more = 0;                    // messages in the frames behind it
  input_chunk* home = nullptr;             // where the bytes are, unless
  byte_buffer whole;                       // they came in pieces
  std::unique_ptr<arrived_parcel> parcel;  // the handles in it, if there are any
};

}  // namespace cohort::detail
