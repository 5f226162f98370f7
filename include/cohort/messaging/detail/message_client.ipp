// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "message_client.hpp"

#include "../../core/config.hpp"

#include <utility>

#include "../endpoint.hpp"

namespace cohort::detail {

COHORT_INLINE message_client::message_client(message_endpoint& endpoint, std::span<const std::uint64_t> ignored)
    : endpoint_(endpoint), alive_(endpoint.alive()), ignored_(ignored) {
  for (const auto type : ignored_) endpoint_.ignore(type);
}

COHORT_INLINE message_client::~message_client() {
  if (alive_.expired()) return;
  for (const auto each : listeners_) endpoint_.remove(each);
  for (const auto type : ignored_) endpoint_.unignore(type);
}

COHORT_INLINE const member& message_client::self() const noexcept { return endpoint_.self(); }

COHORT_INLINE std::uint64_t message_client::add(std::uint64_t type, listener call, bool once) {
  const std::uint64_t number = endpoint_.add(type, std::move(call), once);
  listeners_.push_back(number);
  return number;
}

COHORT_INLINE void message_client::remove(std::uint64_t number) {
  std::erase(listeners_, number);
  endpoint_.remove(number);
}

/// Holds nothing of the client, which may go while it is under way.
COHORT_INLINE asio::awaitable<receipt> send_encoded(message_endpoint& endpoint, recipient who, std::uint64_t type,
                                                    std::string body, bool directly, std::exception_ptr failure) {
  if (failure) std::rethrow_exception(failure);
  auto result = co_await endpoint.send(who, type, std::move(body), directly);
  co_return result;
}

COHORT_INLINE asio::awaitable<receipt> message_client::send(recipient who, std::uint64_t type, std::string body,
                                                            std::exception_ptr failure) {
  return send_encoded(endpoint_, std::move(who), type, std::move(body), directly_, std::move(failure));
}

}  // namespace cohort::detail
