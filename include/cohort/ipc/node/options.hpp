// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cohort {

/// How messages are written on a Node channel: `serialization` of Node's child_process.
enum class node_serialization : std::uint8_t {
  json_lines,  ///< lines of JSON; Node's default
  advanced,    ///< V8's structured clone format
};

/// "json" or "advanced".
constexpr std::string_view to_string(node_serialization mode) noexcept {
  return mode == node_serialization::json_lines ? "json" : "advanced";
}

/// What one end of a Node channel allows itself and its peer.
struct node_options {
  node_options() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  /// For spawn() and a link. parent() takes what the environment says.
  node_serialization serialization = node_serialization::json_lines;
  /// The largest message, in bytes on the wire, in either direction. At most 2^31 - 5.
  std::uint32_t max_message = 64 * 1024 * 1024;
  /// post() answers false while this many bytes wait to be written. Reading stops while this many bytes of messages
  /// wait to be received and nothing of this side's waits for the peer.
  std::size_t high_water = 1024 * 1024;
  /// Handles that have arrived and wait to be received. The next one is acknowledged when one of them is taken, and
  /// until then the peer sends nothing more.
  std::size_t max_handles = 64;
  /// Keeps messages of Node's cluster module for receive_internal(); without, they are ignored.
  bool cluster = false;
};

}  // namespace cohort
