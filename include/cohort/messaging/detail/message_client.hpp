// SPDX-License-Identifier: BSL-1.0
/// What a `messenger` is, whatever its messages: its listeners at the endpoint, and the way out for encoded messages.
///
/// The messenger owns it. It runs on the executor of the endpoint.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "../../core/asio.hpp"
#include "../delivery.hpp"

namespace cohort {

class message_endpoint;

namespace detail {

/// Distinct objects: safe. Shared objects: unsafe. May outlive the endpoint, and can only be destroyed then.
class message_client {
 public:
  using listener = std::function<asio::awaitable<void>(const std::string& body, const member& from)>;

  /// Messages of the `ignored` types count as delivered for as long as this lives. The numbers are static.
  message_client(message_endpoint& endpoint, std::span<const std::uint64_t> ignored);

  message_client(const message_client&) = delete;
  message_client& operator=(const message_client&) = delete;

  /// Removes its listeners.
  ~message_client();

  const member& self() const noexcept;

  void send_directly(bool on) noexcept { directly_ = on; }

  std::uint64_t add(std::uint64_t type, listener call, bool once);

  void remove(std::uint64_t number);

  /// Sends an encoded message, or throws what the encoding has thrown.
  asio::awaitable<receipt> send(recipient who, std::uint64_t type, std::string body, std::exception_ptr failure);

 private:
  message_endpoint& endpoint_;
  std::weak_ptr<const void> alive_;  // expires with the endpoint
  std::span<const std::uint64_t> ignored_;
  std::vector<std::uint64_t> listeners_;
  bool directly_ = false;
};

}  // namespace detail
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "message_client.ipp"
#endif
