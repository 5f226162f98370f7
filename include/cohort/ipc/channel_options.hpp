// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace cohort {

/// What a channel allows itself and its peer.
struct channel_options {
  channel_options() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  /// The largest message, in bytes of its encoding, in either direction.
  std::uint32_t max_message = 64 * 1024 * 1024;
  /// post() answers false while this many bytes wait to be written.
  std::size_t high_water = 1024 * 1024;
  /// Handles given and not yet adopted; further ones wait, in order. At least 1. When more descriptors of the peer's
  /// than this wait here, with a message or in one, nothing further is read until the application has taken some of
  /// them. (One read more can bring 253; as many again can be announced and in no message.)
  std::size_t max_leases = 64;
  /// Calls of the peer that are answered at the same time, until the answers are written; further ones wait.
  std::size_t max_calls = 1024;
};

}  // namespace cohort
