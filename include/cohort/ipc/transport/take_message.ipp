// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "take_message.hpp"

#include "../../core/config.hpp"

#include <cstdint>
#include <exception>
#include <string>
#include <system_error>
#include <utility>

#include "../../core/error.hpp"
#include "../../core/scope.hpp"
#include "link.hpp"

namespace cohort::detail {

void decode_message(link& self, const char* step, std::size_t number, reader& in, message_slot to);

COHORT_INLINE void take_message(link& self, const char* step, const char* data, std::size_t size, message_slot to,
                                std::span<descriptor> handles) {
  reader in(data + 2, size - 2, handles);
  decode_message(self, step, wire::load(data, 2), in, to);
}

COHORT_INLINE void decode_message(link& self, const char* step, std::size_t number, reader& in, message_slot to) {
  const auto& types = self.agreed().incoming;
  if (number >= types.size()) [[unlikely]] {
    const std::string text = std::string(step) + ": message of type " + std::to_string(number);
    self.reject(std::make_exception_ptr(std::system_error(make_error_code(errc::malformed), text)));
  }
  if (types[number] < 0) [[unlikely]] {
    throw_error(std::string(step) + ": " + self.peer_hello()->sends[number].name, errc::unknown_message);
  }
  try {
    to.decode(static_cast<std::size_t>(types[number]), in, to.into);
  } catch (...) {  // a codec of the user's may throw anything, and the message must not stand in the way for ever
    self.reject(std::current_exception());
  }
}

COHORT_INLINE bool knows_first_message(link& self) {
  const std::size_t number = wire::load(self.in().first_message().data, 2);
  const auto& types = self.agreed().incoming;
  return number < types.size() && types[number] >= 0;
}

COHORT_INLINE void take_first_message(link& self, message_slot to, bool landed) {
  // Whether it has been taken or could not be; a message that breaks the link takes all with it.
  const on_exit pops([&self] {
    if (self.in().has_message()) self.pop_message();
  });
  auto& front = self.in().first_message();
  if (!landed) self.in().lift();
  if (const outside_range* const part = self.in().landed()) {
    const char* const data = front.whole.data();
    const outside_range after_type{part->offset - 2, part->data, part->size};
    reader in(data + 2, front.whole.size() - 2, after_type);
    return decode_message(self, "receive", wire::load(data, 2), in, to);
  }
  if (!front.parcel) return take_message(self, "receive", front.data, front.size, to);
  const std::uint64_t id = front.parcel->id;
  try {
    take_message(self, "receive", front.data, front.size, to, front.parcel->handles);
  } catch (const std::system_error& error) {
    if (error.code() == errc::unknown_message) self.refuse(id, wire::refusal::unknown);
    throw;
  }
  self.adopt(id);
}

COHORT_INLINE asio::awaitable<bool> receive_into(std::shared_ptr<link> self, landing where, message_slot to) {
  const bool lands = where && self->in().land(where);
  const on_exit stops([&self, lands] {
    if (lands) self->stop_landing();
  });
  if (!self->in().has_message()) co_await link::wait_message(self);
  if (!self->in().has_message()) {
    self->check_end("receive_into");
    co_return false;
  }
  take_first_message(*self, to, lands);
  co_return true;
}

COHORT_INLINE any_handle take_first_lease(link& self, message_slot to) {
  arrived_lease lease = self.pop_lease();
  try {
    take_message(self, "receive_handle", lease.message.data(), lease.message.size(), to);
  } catch (const std::system_error& error) {
    if (error.code() == errc::unknown_message) self.refuse(lease.id, wire::refusal::unknown);
    throw;
  }
  self.adopt(lease.id);
  return any_handle(lease.kind, std::move(lease.fd));
}

COHORT_INLINE taken_loan take_first_loan(link& self, message_slot to, loan_type wanted, std::string_view name) {
  arrived_loan loan = self.pop_loan();
  taken_loan taken{borrowed_piece(self.weak_from_this(), self.borrowed().memory(), loan.id, loan.offset), loan.count};
  take_message(self, "receive_loan", loan.message.data(), loan.message.size(), to);
  if (loan.type.hash != wanted.hash || loan.type.size != wanted.size) {
    throw_error("receive_loan: of other elements, of " + std::to_string(loan.type.size) + " bytes each, than " +
                    std::string(name),
                errc::schema_mismatch);
  }
  if (self.options().copy_loans) taken.piece.copy(loan.count * loan.type.size);
  return taken;
}

}  // namespace cohort::detail
