// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "../json.hpp"
#include "../options.hpp"

namespace cohort::detail {

/// A message as it stands on the wire, with what marks its end. Throws EINVAL for a value that cannot be written, and
/// errc::message_too_large.
std::string to_node_frame(const json& value, const node_options& options);

/// Cuts what arrives into messages. Knows no loop and no socket.
class node_framer {
 public:
  explicit node_framer(const node_options& options)
      : max_message_(options.max_message), lines_(options.serialization == node_serialization::json_lines) {}

  /// Room for `size` bytes that are to be read.
  std::span<char> prepare(std::size_t size);

  /// So many of them have been read.
  void commit(std::size_t size) { end_ += size; }

  /// The next whole message, without what marks its end; none if it is not all there. Valid until prepare().
  ///
  /// Throws errc::message_too_large when one that has begun will be larger than allowed, and errc::malformed for a
  /// length that nothing has: what comes behind cannot be found.
  std::optional<std::string_view> next();

  /// The value of what next() has returned. Throws errc::malformed.
  json decode(std::string_view message) const;

  /// Whether a part of a message is there.
  bool has_begun() const noexcept { return begin_ != end_; }

 private:
  [[noreturn]] void too_large(std::size_t size) const;

  std::string buffer_;
  std::size_t begin_ = 0, end_ = 0;
  std::size_t searched_ = 0;  // no end of a line up to here
  std::size_t max_message_;
  bool lines_;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "framer.ipp"
#endif
