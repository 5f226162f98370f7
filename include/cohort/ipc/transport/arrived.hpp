// SPDX-License-Identifier: BSL-1.0
/// Handles that have been read from a channel's socket and that the application has not taken.
#pragma once

#include <cstdint>
#include <vector>

#include "../../core/descriptor.hpp"
#include "../codec/byte_buffer.hpp"
#include "../handle.hpp"

namespace cohort::detail {

/// Handles that have arrived in a message.
struct arrived_parcel {
  std::uint64_t id = 0;
  std::vector<descriptor> handles;
};

/// A lease that has arrived and that the application has not taken.
struct arrived_lease {
  std::uint64_t id = 0;
  handle_kind kind = handle_kind::descriptor;
  byte_buffer message;  // u16 type, encoding
  descriptor fd;        // none when the kernel had no room for it here
};

}  // namespace cohort::detail
