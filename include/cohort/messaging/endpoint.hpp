// SPDX-License-Identifier: BSL-1.0
/// A process's part in the messages of its cluster.
///
/// A worker owns one, and so does the primary. It runs on their executor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "../core/asio.hpp"
#include "../core/semaphore.hpp"
#include "delivery.hpp"

namespace cohort {

/// The listeners of a process, and the way out for its messages. Knows messages as bytes and the fingerprints of their
/// types; `messenger` is the typed view of it.
///
/// The executor must be a strand or have one thread, and all that use the object run on it.
///
/// Distinct objects: safe. Shared objects: unsafe.
class message_endpoint {
 public:
  using listener = std::function<asio::awaitable<void>(const std::string& body, const member& from)>;
  using carrier = std::function<asio::awaitable<receipt>(routed_message, bool directly)>;

  /// Messages of this process that are under way at the same time; further ones wait, in order. So the primary holds
  /// no more of them, however slow a receiver is.
  static constexpr std::size_t window = 128;

  /// `carry` takes a message to where it goes, by way of the primary or directly.
  message_endpoint(const asio::any_io_executor& executor, member self, carrier carry)
      : self_(std::move(self)), carry_(std::move(carry)), permits_(executor, window) {}

  message_endpoint(const message_endpoint&) = delete;
  message_endpoint& operator=(const message_endpoint&) = delete;

  asio::any_io_executor get_executor() { return permits_.get_executor(); }

  /// This process.
  const member& self() const noexcept { return self_; }

  /// Expires with this object: for owners of listeners that remove them at their end, which may come later.
  std::weak_ptr<const void> alive() const noexcept { return alive_; }

  /// Sends a message, and waits until it is known what became of it. Throws what the way out throws; cancelling throws
  /// operation_aborted, and takes it back from the processes that have not got it.
  asio::awaitable<receipt> send(const recipient& to, std::uint64_t type, std::string body, bool directly = false);

  /// Gives a message to its listeners, in the order in which they were added, and waits for all of them.
  asio::awaitable<receipt> receive(routed_message what);

  /// Adds a listener; what is returned is for remove(), and never used again.
  std::uint64_t add(std::uint64_t type, listener call, bool once);

  /// Removes a listener, unless it is removed already; one that runs comes to its end.
  void remove(std::uint64_t number);

  /// Counts messages of this type as delivered even if nothing listens to them.
  void ignore(std::uint64_t type) { ignored_.insert(type); }
  void unignore(std::uint64_t type);

 private:
  struct registration {
    std::uint64_t number;
    std::uint64_t type;
    listener call;
    bool once;
    bool removed;
  };

  asio::awaitable<receipt> hand_in(routed_message what, bool directly);

  member self_;
  carrier carry_;
  semaphore permits_;
  std::list<std::shared_ptr<registration>> listeners_;
  std::multiset<std::uint64_t> ignored_;
  std::uint64_t last_ = 0;
  std::shared_ptr<const char> alive_ = std::make_shared<const char>('\0');
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "endpoint.ipp"
#endif
