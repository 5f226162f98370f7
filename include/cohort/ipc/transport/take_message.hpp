// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>

#include "../../core/descriptor.hpp"
#include "../codec/schema.hpp"
#include "../handle.hpp"

namespace cohort {

class link;

namespace detail {

/// Where a message is decoded to: a std::optional<In>, whose type who fills it need not know. Refers to it.
struct message_slot {
  using decoder = void (*)(std::size_t number, const char* data, std::size_t size, void* into,
                           std::span<descriptor> handles);

  template <class In>
  explicit message_slot(std::optional<In>& message) : into(std::addressof(message)), decode(&decode_to<In>) {}

  void* into;
  decoder decode;

 private:
  template <class In>
  static void decode_to(std::size_t number, const char* data, std::size_t size, void* into,
                        std::span<descriptor> handles) {
    message_set<In>::decode(number, data, size, *static_cast<std::optional<In>*>(into), handles);
  }
};

/// Decodes the message that `data` (u16 type, encoding) and the descriptors are. Throws errc::unknown_message, naming
/// it, for one that this program does not know. For one that no correct peer sends, it breaks the link and throws.
void take_message(link& self, const char* step, const char* data, std::size_t size, message_slot to,
                  std::span<descriptor> handles = {});

/// Takes the first message that has been read; there must be one. Tells its sender when the handles in it have been
/// taken.
void take_first_message(link& self, message_slot to);

/// Takes the first message that came with a handle; there must be one. Tells its sender.
any_handle take_first_lease(link& self, message_slot to);

}  // namespace detail
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "take_message.ipp"
#endif
