// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "../../core/asio.hpp"
#include "../../ipc/peer.hpp"
#include "../../worker/protocol.hpp"
#include "../../messaging/delivery.hpp"
#include "../../messaging/delivery_queue.hpp"

namespace cohort {

/// What a slot's worker is about to do, or does.
enum class worker_state {
  waiting,   ///< its start is put off, there were too many
  starting,  ///< it runs, and has not said that it is ready
  ready,     ///< it serves
  draining,  ///< it accepts no more and finishes; its replacement starts meanwhile, or serves already
  stopping,  ///< because the cluster stops: asked to drain
  dead,      ///< reaped, or never started
};

std::string_view to_string(worker_state state) noexcept;

/// Whether a worker may go from one state to the other. There is no way back: a replacement is another worker.
constexpr bool may_follow(worker_state from, worker_state to) noexcept {
  switch (to) {
    case worker_state::waiting: return false;
    case worker_state::starting: return from == worker_state::waiting;
    case worker_state::ready: return from == worker_state::starting;
    case worker_state::draining: return from == worker_state::starting || from == worker_state::ready;
    case worker_state::stopping:
      return from == worker_state::starting || from == worker_state::ready || from == worker_state::draining;
    case worker_state::dead: return from != worker_state::dead;
  }
  return false;
}

/// One worker process of a cluster in its slot, from before its start until it is reaped.
///
/// Slots have the numbers 1 to N, and keep them: a replacement has the number of the one it replaces, and both are
/// there while the old one drains, or while a reload waits for the new one to be ready.
class worker_process : public std::enable_shared_from_this<worker_process> {
 public:
  using clock = std::chrono::steady_clock;

  worker_process(const asio::any_io_executor& executor, unsigned number, unsigned generation = 1,
              const delivery_options& how = {})
      : deliveries(executor, how), deadline_(executor), number_(number), generation_(generation) {}

  unsigned number() const noexcept { return number_; }
  unsigned generation() const noexcept { return generation_; }
  worker_state state() const noexcept { return state_; }
  pid_t pid() const noexcept { return peer.pid(); }

  /// As the other processes know it.
  member as_member() const;
  clock::time_point started() const noexcept { return started_; }

  void enter(worker_state next);

  bool is_serving() const noexcept { return state_ == worker_state::ready && !candidate; }

  /// Sends it a message; one that is on its way out need not hear it.
  template <class M>
  void tell(const M& message) {
    try {
      if (peer.is_open()) peer.post(message);
    } catch (const std::system_error&) {
      // Its end is told by its exit status.
    }
  }

  /// Kills the process if it is still in the present state after `limit`.
  void limit_state(std::chrono::milliseconds limit);

  /// Ends the process at once, if there is one.
  void kill();

  void signal(int signal_number);

  /// Puts the start off; cancel_wait() ends that early.
  asio::awaitable<void> wait(std::chrono::milliseconds pause);
  void cancel_wait() { deadline_.cancel(); }

  cohort::peer<worker_protocol> peer;
  delivery_queue deliveries;
  std::string agent;       // its name, if it is one: it has no slot then
  bool replaced = false;   // or decided that it will not be
  bool candidate = false;  // of a reload that is not over: it must not serve yet
  bool dismissed = false;  // not to be started after all
  bool recycling = false;  // it has reached one of the limits
  bool asked = false;      // to drain, by the cluster
  bool timed_out = false;  // killed because of limit_state()
  bool hung = false;       // killed because it did not answer
  bool killed = false;     // by the cluster, for whatever reason
  std::optional<clock::time_point> ready_since;
  std::uint64_t oom_kills = 0;  // on this machine, before it was started
  std::string trouble;          // what it said, or was found wrong with it, last
  double fraction = std::uniform_real_distribution<double>(0, 1)(randomness());

  /// Connections that it has been given and that have not ended, as far as it has said.
  std::size_t open() const noexcept { return leased > ended ? static_cast<std::size_t>(leased - ended) : 0; }

  std::uint64_t leased = 0;  // connections given to it, those under way included

  // What it has said last about itself.
  std::uint64_t ended = 0;  // of those connections
  worker_protocol::pong health;
  std::uint64_t pinged = 0;
  clock::time_point pinged_at{};
  clock::duration lag{};  // from the last ping to its pong

 private:
  static std::minstd_rand& randomness();

  asio::steady_timer deadline_;
  clock::time_point started_{};
  unsigned number_;
  unsigned generation_;
  worker_state state_ = worker_state::waiting;
};

std::ptrdiff_t count_in(const std::vector<std::shared_ptr<worker_process>>& workers, worker_state state);

bool all_ready(const std::vector<std::shared_ptr<worker_process>>& workers);

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "worker_process.ipp"
#endif
