// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <unistd.h>

#include "../core/asio.hpp"
#include "../core/error.hpp"
#include "../core/semaphore.hpp"
#include "delivery.hpp"

namespace cohort {

/// A process's part in the messages of its cluster: what listens here, and the way out. Knows messages as bytes and the
/// fingerprints of their types; `messenger` is the typed view of it.
///
/// Distinct objects: safe. Shared objects: unsafe.
class message_endpoint {
 public:
  using listener = std::function<asio::awaitable<void>(const std::string& body, const member& from)>;
  using carrier = std::function<asio::awaitable<receipt>(routed_message, bool directly)>;

  /// Messages of this process that are under way at the same time; further ones wait, in order. So the primary holds
  /// no more of them, however slow a receiver is.
  static constexpr std::size_t window = 128;

  /// `carry` takes a letter to where it goes, by way of the primary or directly.
  message_endpoint(const asio::any_io_executor& executor, member self, carrier carry)
      : self_(std::move(self)), carry_(std::move(carry)), permits_(executor, window) {}

  message_endpoint(const message_endpoint&) = delete;
  message_endpoint& operator=(const message_endpoint&) = delete;

  asio::any_io_executor get_executor() { return permits_.get_executor(); }

  /// This process.
  const member& self() const noexcept { return self_; }

  /// Expires with this object: for those that remove their listeners when they go, and may go later.
  std::weak_ptr<const void> alive() const noexcept { return alive_; }

  /// Sends a letter, and waits until it is known what became of it. Throws what the way out throws; cancelling throws
  /// operation_aborted, and takes it back from those that have not got it.
  asio::awaitable<receipt> send(const recipient& to, std::uint64_t type, std::string body, bool directly = false) {
    routed_message what;
    what.to = static_cast<std::uint8_t>(to.what());
    what.number = to.number();
    what.name = to.name();
    what.from = self_;
    what.type = type;
    what.body = std::move(body);
    return hand_in(std::move(what), directly);
  }

  /// Gives a letter to what listens to it, in the order in which that was added, and waits for all of it.
  asio::awaitable<receipt> receive(routed_message what) {
    receipt result;
    std::vector<std::shared_ptr<registration>> to;
    for (const auto& each : listeners_) {
      if (each->type == what.type) to.push_back(each);
    }
    if (to.empty() && !ignored_.contains(what.type)) {
      co_return detail::not_delivered(self_, undelivered::unheard);
    }
    for (const auto& each : to) {
      if (each->removed) continue;
      if (each->once) remove(each->number);
      try {
        co_await each->call(what.body, what.from);
      } catch (const std::exception& error) {
        result.failures.push_back({self_, undelivered::failed, error.what()});
      } catch (...) {
        result.failures.push_back({self_, undelivered::failed, "an exception that is no std::exception"});
      }
    }
    if (result.failures.size() > 1) result.failures.resize(1);
    result.delivered = result.failures.empty() ? 1 : 0;
    co_return result;
  }

  /// Adds a listener; what is returned is for remove(), and never used again.
  std::uint64_t add(std::uint64_t type, listener call, bool once) {
    listeners_.push_back(std::make_shared<registration>(registration{++last_, type, std::move(call), once, false}));
    return last_;
  }

  /// Removes a listener, unless it is removed already; one that runs comes to its end.
  void remove(std::uint64_t number) {
    for (auto at = listeners_.begin(); at != listeners_.end(); ++at) {
      if ((*at)->number != number) continue;
      (*at)->removed = true;
      listeners_.erase(at);
      return;
    }
  }

  /// Counts messages of this type as delivered even if nothing listens to them.
  void ignore(std::uint64_t type) { ignored_.insert(type); }
  void unignore(std::uint64_t type) {
    if (const auto at = ignored_.find(type); at != ignored_.end()) ignored_.erase(at);
  }

 private:
  struct registration {
    std::uint64_t number;
    std::uint64_t type;
    listener call;
    bool once;
    bool removed;
  };

  struct permit {
    semaphore& of;
    ~permit() { of.release(); }
  };

  asio::awaitable<receipt> hand_in(routed_message what, bool directly) {
    co_await permits_.acquire();
    const permit mine{permits_};
    auto result = co_await carry_(std::move(what), directly);
    co_return result;
  }

  member self_;
  carrier carry_;
  semaphore permits_;
  std::list<std::shared_ptr<registration>> listeners_;
  std::multiset<std::uint64_t> ignored_;
  std::uint64_t last_ = 0;
  std::shared_ptr<const char> alive_ = std::make_shared<const char>('\0');
};

}  // namespace cohort
