// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <unordered_map>

#include "../../core/asio.hpp"
#include "../../core/error.hpp"
#include "../../core/event.hpp"
#include "frame.hpp"
#include "outbox.hpp"

namespace cohort::detail {

/// The handles that this side has given and the peer has not answered, and those who wait to give one. Knows no socket.
class lease_window {
 public:
  enum class state { pending, adopted, refused };

  /// A handle that has been given. It counts for as long as it lives.
  struct lease {
    /// `changed` is notified of its answer; several leases may share one.
    lease(lease_window& in, event& changed);
    lease(const lease&) = delete;
    ~lease();

    lease_window& window;
    event& changed;
    const std::uint64_t id;
    outbox::ticket sent = outbox::never;
    lease_window::state state = lease_window::state::pending;
    wire::refusal reason = wire::refusal::declined;
    int error = 0;  // why the kernel does not pass the handle
  };

  /// A place among those who wait to give a handle; `changed` is notified when it may have come to its turn.
  struct place {
    place(lease_window& in, event& changed) : window(in), mine(&changed) { window.queue_.push_back(mine); }
    place(const place&) = delete;
    ~place();

    /// Whether it is the first, and there is room.
    bool has_come() const noexcept { return window.queue_.front() == mine && window.given_.size() < window.size_; }

    lease_window& window;
    event* mine;
  };

  /// `size` leases may be there at a time; at least 1.
  explicit lease_window(std::size_t size) : size_(std::max<std::size_t>(size, 1)) {}

  bool has_room() const noexcept { return given_.size() < size_ && queue_.empty(); }

  /// Waits for room, in order of arrival; `check()` throws what makes the waiting pointless.
  asio::awaitable<void> wait_room(asio::any_io_executor executor, std::function<void()> check);

  /// Takes an answer of the peer, who has everything up to the message `begun`. Throws errc::malformed for an answer
  /// that no correct peer gives.
  void settle(std::uint64_t id, state answer, wire::refusal reason, outbox::ticket begun);

  /// The kernel refuses to pass the handle that goes with message `sent`: its errno.
  void fail(outbox::ticket sent, int error);

  /// Has everybody look again at what they wait for.
  void wake_all();

 private:
  [[noreturn]] static void malformed(const std::string& what) { throw_error("receive: " + what, errc::malformed); }

  void admit_next();

  std::unordered_map<std::uint64_t, lease*> given_;
  std::deque<event*> queue_;
  std::size_t size_;
  std::uint64_t last_ = 0;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "lease_window.ipp"
#endif
