// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/event.hpp"

namespace cohort {

class link;

namespace detail {

/// Decides who reads a link's socket: of those who wait for input one at a time, which hands over to the next when it
/// leaves. Nobody reads in the background.
///
/// A part of the link, on the link's executor.
class read_baton {
 public:
  explicit read_baton(link& owner) : owner_(owner) {}

  read_baton(const read_baton&) = delete;
  read_baton& operator=(const read_baton&) = delete;

  /// Waits until `ready()`, reading as long as nobody else does. Whoever makes it ready notifies `changed`, too.
  ///
  /// Throws what waiting for the socket says. Cancelling throws operation_aborted, and somebody else goes on reading.
  static asio::awaitable<void> wait(std::shared_ptr<link> self, event& changed, std::function<bool()> ready);

  /// Reads what is there, never blocking; false when nothing is. Failures break the link and count as news.
  bool read_once();

  /// The same, whatever the last read has said of the socket.
  void read_now() {
    drained_ = false;
    read_once();
  }

  /// See channel::poll_for().
  void poll_for(std::chrono::nanoseconds time) noexcept { poll_time_ = time; }

  /// Whether somebody waits for the socket.
  bool is_held() const noexcept { return held_; }

  /// Whether somebody waits while somebody else reads.
  bool is_wanted() const noexcept { return !waiting_.empty(); }

  /// Has whoever waits for the socket look again.
  void look_again();

  /// Has the next of those who wait look whether it is to read.
  void pass_on();

 private:
  static constexpr unsigned reads_a_turn = 8;  // of 256 KiB at most

  /// Looks again and again for as long as poll_for() says; false when nothing has come.
  bool poll();

  link& owner_;
  std::chrono::nanoseconds poll_time_{0};
  std::vector<event*> waiting_;  // of those who wait while somebody else reads
  unsigned reads_ = 0;           // since somebody last waited for the socket
  bool held_ = false;
  bool drained_ = false;  // the last read took all there was
};

}  // namespace detail
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "link.hpp"  // with the bodies, which need the whole of it
#endif
