// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <variant>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../codec/schema.hpp"
#include "../handle.hpp"
#include "borrowed_memory.hpp"
#include "landing.hpp"

namespace cohort {

class link;

namespace detail {

/// Where a message is decoded to: a std::optional<In>, which is made anew, or an In, which keeps its memory. Who fills
/// it need not know its type. Refers to it.
struct message_slot {
  using decoder = void (*)(std::size_t number, reader& in, void* into);

  template <class In>
  explicit message_slot(std::optional<In>& message)
      : into(std::addressof(message)), decode(&decode_to<In, std::optional<In>>) {}

  template <class In>
    requires(!std::is_same_v<In, message_slot>)
  explicit message_slot(In& message) : into(std::addressof(message)), decode(&decode_to<In, In>) {}

  void* into;
  decoder decode;

 private:
  template <class In, class Slot>
  static void decode_to(std::size_t number, reader& in, void* into) {
    message_set<In>::decode(number, in, *static_cast<Slot*>(into));
  }
};

/// Decodes the message that `data` (u16 type, encoding) and the descriptors are. Throws errc::unknown_message, naming
/// it, for one that this program does not know. For one that no correct peer sends, it breaks the link and throws.
void take_message(link& self, const char* step, const char* data, std::size_t size, message_slot to,
                  std::span<descriptor> handles = {});

/// Whether this program knows the type of the first message that has been read; there must be one.
bool knows_first_message(link& self);

/// Takes the first message that has been read; there must be one. Tells its sender when the handles in it have been
/// taken. `landed`: a large part of it may have been read to the slot already.
void take_first_message(link& self, message_slot to, bool landed = false);

/// Waits for a message and takes it, a large part of it directly from the socket to where it belongs, if that is known:
/// see channel::receive_into().
asio::awaitable<bool> receive_into(std::shared_ptr<link> self, landing where, message_slot to);

/// Where messages like the one in `into` are to be read to; nowhere if that cannot be said.
template <class In>
landing landing_for(const negotiation& agreed, In& into) {
  landing result;
  const auto look = [&]<class M>(M& message) {
    if constexpr (large_part<M>::exists) {
      const int mine = static_cast<int>(message_set<In>::template index_of<M>);
      for (std::size_t i = 0; i < agreed.incoming.size(); ++i) {
        if (agreed.incoming[i] == mine) result = landing_in(message, i);
      }
    }
  };
  if constexpr (message_set<In>::is_single) {
    look(into);
  } else {
    if (!into.valueless_by_exception()) std::visit(look, into);
  }
  return result;
}

/// Takes the first message that came with a handle; there must be one. Tells its sender.
any_handle take_first_lease(link& self, message_slot to);

/// The memory of a loan and how many elements are in it.
struct taken_loan {
  borrowed_piece piece;
  std::size_t count = 0;
};

/// Takes the first message that came with a loan, of elements which must be `wanted`; there must be one. If it throws,
/// the memory is given back.
taken_loan take_first_loan(link& self, message_slot to, loan_type wanted, std::string_view name);

}  // namespace detail
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "take_message.ipp"
#endif
