// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <system_error>

#include "../../../core/event.hpp"

namespace cohort::detail {

/// A message on its way to a Node peer. The outbox and the coroutine that waits for it share it.
struct node_outgoing {
  enum class stage {
    waiting,  ///< nothing of it has been written, or the peer had no room for its handle
    begun,    ///< the kernel has a part of it
    written,  ///< the kernel has it; one with a handle waits for the peer's answer
    done,     ///< written, and acknowledged if it has a handle
    failed    ///< `error` says why
  };

  std::string bytes;
  std::size_t written = 0;
  int fd = -1;           ///< the caller's; -1 for none, or when the caller has given up
  bool has_handle = false;
  bool is_answer = false;  ///< nobody waits for it, and the peer has asked for it
  bool repeats = false;    ///< after a NACK, as Node does for a net.Socket
  unsigned repeated = 0;
  stage state = stage::waiting;
  std::error_code error;
  std::optional<event> changed;  ///< of who waits for the end of it

  bool is_over() const noexcept { return state == stage::done || state == stage::failed; }
};

/// What this side has to write, by Node's rules: one handle is under way at a time, and until the peer has answered
/// for it everything behind it is held back, but for this side's own answers. Knows no loop.
class node_outbox {
 public:
  using message_ptr = std::shared_ptr<node_outgoing>;

  enum class outcome {
    done,     ///< nothing is left that may be written
    blocked,  ///< the socket is full
    more,     ///< it was a lot for one turn of the loop
    starved,  ///< the kernel is short of memory, or has too many descriptors under way
    failed    ///< errno says why; nothing can be sent any more
  };

  static constexpr unsigned max_repeats = 3;

  /// Queues a message, behind a handle that is under way.
  void push(message_ptr message);

  /// Queues the answer to a handle of the peer's, in front of everything that has not begun.
  void answer(std::string bytes);

  /// Writes what may be written.
  outcome write(int socket);

  /// The peer has the handle. Ignored if none is under way.
  void on_ack();

  /// The peer had no descriptor for the handle. Ignored if none is under way.
  void on_nack();

  /// Takes back a message of which nothing has been written, or whose handle the peer could not take; false if it is
  /// too late.
  bool withdraw(node_outgoing& message);

  /// Everything that waits has failed.
  void fail(std::error_code why);

  /// Whether nothing waits, neither to be written nor for the peer's answer.
  bool is_idle() const noexcept { return queue_.empty() && held_.empty() && !pending_; }

  /// Whether something may be written.
  bool has_output() const noexcept { return !queue_.empty(); }

  /// Of what has not been written.
  std::size_t waiting_bytes() const noexcept { return waiting_bytes_; }

  /// Of this side's own answers in it.
  std::size_t answer_bytes() const noexcept { return answer_bytes_; }

 private:
  static void finish(node_outgoing& message, node_outgoing::stage how, std::error_code why = {});
  std::size_t begun() const noexcept { return !queue_.empty() && queue_.front()->written != 0 ? 1 : 0; }
  ssize_t write_handle(int socket, const node_outgoing& message) const;
  ssize_t write_plain(int socket) const;
  void advance(std::size_t size);
  void release_held();
  void drop_front(std::error_code why);

  std::deque<message_ptr> queue_;  // to be written
  std::deque<message_ptr> held_;   // behind the handle that is under way
  message_ptr pending_;            // the message whose handle is under way; in queue_ too until it is written
  std::size_t waiting_bytes_ = 0, answer_bytes_ = 0;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "outbox.ipp"
#endif
