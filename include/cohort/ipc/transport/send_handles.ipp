// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "send_handles.hpp"

#include "../../core/config.hpp"

#include <cerrno>
#include <cstring>
#include <exception>
#include <utility>

#include "../../core/asio_error.hpp"
#include "../../core/error.hpp"
#include "../../core/task_group.hpp"
#include "link.hpp"

namespace cohort::detail {

COHORT_INLINE asio::awaitable<void> send_handle(std::shared_ptr<link> self, std::size_t type, encoded_message message,
                                                handle_ref object) {
  link::check_open(self, "send_handle");
  if (message.failure) std::rethrow_exception(message.failure);
  handle_kind kind = handle_kind::descriptor;
  const int fd = object.get(kind);
  if (fd < 0) throw_error("send_handle: the handle is not open", EBADF);
  message.bytes.data()[lease_head - 1] = static_cast<char>(kind);
  co_await link::lease(self, "send_handle", type, wire::kind::lease, std::move(message.bytes), lease_head,
                       std::span<const int>(&fd, 1));
  object.taken();
}

COHORT_INLINE asio::awaitable<std::vector<std::error_code>> send_handles(std::shared_ptr<link> self, std::size_t type,
                                                                         encoded_message message,
                                                                         std::vector<handle_ref> objects) {
  link::check_open(self, "send_handles");
  if (message.failure) std::rethrow_exception(message.failure);
  task_group leases(self->get_executor());
  std::vector<std::error_code> results(objects.size());
  std::exception_ptr failure;
  std::size_t at = 0;
  for (const handle_ref& each : objects) {
    encoded_message copy;
    std::memcpy(copy.bytes.grow(message.bytes.size()), message.bytes.data(), message.bytes.size());
    const auto ended = [&failure, &result = results[at++]](const std::exception_ptr& thrown) {
      const auto error = system_error_in(thrown);
      if (error) {
        result = error->code();
      } else if (thrown) {
        failure = thrown;
      }
    };
    leases.start(send_handle(self, type, std::move(copy), each), ended);
  }
  try {
    co_await leases.wait_empty();
  } catch (...) {
    caught();
    leases.cancel();
  }
  // They use what is here; each knows best whether it was taken before it was cancelled.
  co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
  co_await leases.wait_empty();
  if (failure) std::rethrow_exception(failure);
  co_return results;
}

COHORT_INLINE asio::awaitable<void> send_parcel(std::shared_ptr<link> self, std::size_t type, encoded_message message,
                                                void (*taken)(void*), void* object) {
  link::check_open(self, "send");
  if (message.failure) std::rethrow_exception(message.failure);
  byte_buffer payload;
  char* const to = payload.grow(parcel_head + message.bytes.size());
  std::memcpy(to + parcel_head, message.bytes.data(), message.bytes.size());
  co_await link::lease(self, "send", type, wire::kind::parcel, std::move(payload), parcel_head, message.handles);
  if (taken != nullptr) taken(object);
}

}  // namespace cohort::detail
