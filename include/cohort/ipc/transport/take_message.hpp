// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <exception>
#include <optional>
#include <span>
#include <system_error>

#include <fmt/format.h>

#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "frame.hpp"
#include "link.hpp"
#include "../codec/schema.hpp"

namespace cohort::detail {

/// The message of type In that `data` (u16 type, encoding) and the descriptors are. Throws errc::unknown_message, naming
/// it, for one that this program does not know. For one that no correct peer sends, it breaks the link and throws.
template <class In>
std::optional<In> take_message(link& self, const char* step, const char* data, std::size_t size,
                               std::span<descriptor> handles = {}) {
  const std::size_t number = wire::load(data, 2);
  const auto& types = self.agreed().incoming;
  if (number >= types.size()) {
    self.reject(std::make_exception_ptr(std::system_error(make_error_code(errc::malformed),
                                                          fmt::format("{}: message of type {}", step, number))));
  }
  if (types[number] < 0) {
    throw_error(fmt::format("{}: {}", step, self.peer_hello()->sends[number].name), errc::unknown_message);
  }
  std::optional<In> result;
  try {
    message_set<In>::decode(static_cast<std::size_t>(types[number]), data + 2, size - 2, result, handles);
  } catch (...) {  // a codec of the user's may throw anything, and the message must not stand in the way for ever
    self.reject(std::current_exception());
  }
  return result;
}

}  // namespace cohort::detail
