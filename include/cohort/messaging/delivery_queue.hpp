// SPDX-License-Identifier: BSL-1.0
/// The messages that wait for one process, in the primary.
///
/// The primary owns one for each process. It runs on the primary's executor.
#pragma once

#include <cstddef>
#include <functional>

#include "../core/asio.hpp"
#include "../core/wait_queue.hpp"
#include "delivery.hpp"
#include "options.hpp"

namespace cohort {

/// The messages for one process, in order.
///
/// Distinct objects: safe. Shared objects: unsafe. Must outlive the deliveries.
class delivery_queue {
 public:
  explicit delivery_queue(const asio::any_io_executor& executor, const delivery_options& options = {});

  delivery_queue(const delivery_queue&) = delete;
  delivery_queue& operator=(const delivery_queue&) = delete;

  /// Messages that wait for their turn.
  std::size_t waiting() const noexcept { return turns_.waiting(); }
  /// Whether the process was too slow, see slow_receiver::disconnect.
  bool is_closed() const noexcept { return closed_; }

  /// Waits for a turn, and calls `carry()` then. `who` is what the receipt says of a message that has no turn;
  /// `give_up()` is called when the process is to be disconnected. Both functions, and what they use, must outlive the
  /// call.
  ///
  /// Cancelling throws operation_aborted.
  asio::awaitable<receipt> deliver(member who, std::function<asio::awaitable<receipt>()> carry,
                                   std::function<void()> give_up);

 private:
  /// What a full queue does about one more message.
  void make_room();

  const delivery_options options_;
  detail::wait_queue turns_;
  bool closed_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "delivery_queue.ipp"
#endif
