// SPDX-License-Identifier: BSL-1.0
/// One process that the primary supervises: a worker in its slot, or an agent.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <sys/types.h>

#include "../../core/asio.hpp"
#include "../../core/random.hpp"
#include "../../ipc/peer.hpp"
#include "../../messaging/delivery.hpp"
#include "../../messaging/delivery_queue.hpp"
#include "../../worker/protocol.hpp"
#include "../worker_state.hpp"
#include "counter_totals.hpp"

namespace cohort {

/// A worker's part in its slot.
enum class worker_role {
  incumbent,  ///< the slot is its: another one takes its place when it ends
  candidate,  ///< of an update that is not over: it must not serve yet
  retired,    ///< whether another one takes its place is decided
  dismissed,  ///< retired before it was started: it is not to be started
};

/// Why the primary has killed a process. Of several causes the first one stands.
enum class end_cause {
  killed,     ///< whoever uses the cluster wanted it
  timed_out,  ///< it was too long in one state
  hung,       ///< it did not answer
};

/// What a process has said about itself, and what it was given.
struct process_figures {
  std::uint64_t leased = 0;      ///< connections given to it, those under way included
  std::uint64_t ended = 0;       ///< of those connections, as it has said last
  worker_protocol::pong health;  ///< its last answer to a ping
  counter_totals::said counted;  ///< as it has said last
  std::uint64_t pinged = 0;      ///< the number of the last ping
  std::chrono::steady_clock::time_point pinged_at{};
  std::size_t bytes_under_way = 0;  ///< of its messages that the primary works on
  std::uint64_t refused = 0;        ///< of what it wanted: beyond process_limits
  std::size_t events = 0;           ///< that it has made, since events_since
  std::size_t events_left_out = 0;
  std::chrono::steady_clock::time_point events_since{};
  std::chrono::steady_clock::duration lag{};  ///< from the last ping to its answer
};

/// What is known of the end of a process before its exit status is.
struct process_end {
  bool asked = false;              ///< to drain, by the cluster
  bool announced = false;          ///< by itself: it has said that it drains
  std::optional<end_cause> cause;  ///< why the primary has killed it
  std::uint64_t oom_kills = 0;     ///< on this machine, before it was started
  std::string trouble;             ///< what it said, or was found wrong with it, last
};

/// One process of a cluster, from before its start until it is reaped.
///
/// Slots have the numbers 1 to N, and keep them: a replacement has the number of the one it replaces, and both are
/// there while the old one drains, or while an update waits for the new one to be ready. An agent has the number 0.
///
/// Distinct objects: safe. Shared objects: unsafe.
class worker_process : public std::enable_shared_from_this<worker_process> {
 public:
  using clock = std::chrono::steady_clock;

  worker_process(const asio::any_io_executor& executor, unsigned number, unsigned generation = 1,
                 const delivery_options& how = {});

  unsigned number() const noexcept { return number_; }
  unsigned generation() const noexcept { return generation_; }
  worker_state state() const noexcept { return state_; }
  worker_role role() const noexcept { return role_; }
  pid_t pid() const noexcept { return peer.pid(); }
  clock::time_point started() const noexcept { return started_; }

  /// As the other processes know it.
  member as_member() const;

  /// Goes to the next state, which may_follow() allows. Ends limit_state() of the one before.
  void enter(worker_state next);
  void assume(worker_role role) noexcept { role_ = role; }

  bool is_serving() const noexcept { return state_ == worker_state::ready && role_ != worker_role::candidate; }

  /// Whether it is on its way to serve, or serves.
  bool is_coming_or_ready() const noexcept {
    return state_ == worker_state::starting || state_ == worker_state::ready;
  }

  /// Connections that it has been given and that have not ended, as far as it has said.
  std::size_t open() const noexcept;

  /// Sends it a message; one that is on its way out need not hear it.
  template <class M>
  void tell(const M& message) {
    peer.post_if_open(message);
  }

  /// Kills the process if it is still in the present state after `limit`.
  void limit_state(std::chrono::milliseconds limit);

  /// Ends the process at once, if there is one.
  void kill(end_cause why = end_cause::killed);

  /// Signals the process, if there is one: by its pidfd, and if that is refused, as by a container's seccomp filter, by
  /// its pid, which nobody else has while it is not reaped. A process that takes no signal, because it is another
  /// user's by now, is told once by on_refused_signal.
  void signal(int signal_number);

  /// Puts the start off; cancel_wait() ends that early.
  asio::awaitable<void> wait(std::chrono::milliseconds pause);
  void cancel_wait() { deadline_.cancel(); }

  // More than a dozen members: what a supervisor, the router and a distributor each need to know of one process.
  cohort::peer<worker_protocol> peer;
  delivery_queue deliveries;
  std::string agent;  // its name, if it is one
  process_figures figures;
  process_end end;
  std::optional<clock::time_point> ready_since;
  std::function<void(const std::string& why)> on_refused_signal;
  bool recycling = false;  // it has reached one of recycle_limits
  const double fraction = detail::random_fraction();  // for the jitter of recycle_limits

 private:
  asio::steady_timer deadline_;
  clock::time_point started_{};
  unsigned number_;
  unsigned generation_;
  worker_state state_ = worker_state::waiting;
  worker_role role_ = worker_role::incumbent;
};

using worker_ptr = std::shared_ptr<worker_process>;

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "worker_process.ipp"
#endif
