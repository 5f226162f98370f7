// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>

#include "../codec/byte_buffer.hpp"
#include "../codec/byte_stream.hpp"

namespace cohort::detail {

/// A message that comes in pieces.
struct assembly {
  byte_buffer bytes;        // what is here of it,
  std::size_t size = 0;     // and of the message altogether
  std::size_t missing = 0;  // so much of the piece that is coming
  bool is_last_piece = false;
  byte_buffer spare;  // the memory of the last message

  // The part that lands, if it does.
  bool lands = false;
  outside_range part;      // all of it
  std::size_t landed = 0;  // has come
  std::size_t room = 0;    // is there for it

  std::size_t part_missing() const noexcept { return lands && size >= part.offset ? part.size - landed : 0; }
};

}  // namespace cohort::detail
