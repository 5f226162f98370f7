// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <list>
#include <utility>

#include "../core/asio.hpp"
#include "../core/event.hpp"
#include "delivery.hpp"

namespace cohort {

/// What happens to messages for a process that does not keep up with them.
enum class slow_receiver {
  block,        ///< senders wait
  drop_oldest,  ///< the one that has waited longest makes room: its sender is told undelivered::dropped
  disconnect,   ///< it gets no messages any more, their senders are told undelivered::slow, and it is replaced
};

/// How the primary keeps messages for a process.
struct delivery_options {
  delivery_options() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  /// Messages that a process handles at the same time; further ones wait in the primary.
  std::size_t in_flight = 64;
  /// How many may wait there for one process before `slow` decides. With slow_receiver::block they are as many as
  /// senders have under way, message_endpoint::window each at most.
  std::size_t queue = 1024;
  slow_receiver slow = slow_receiver::block;
};

/// The messages for one process, in order.
///
/// Distinct objects: safe. Shared objects: unsafe. Must outlive the deliveries.
class delivery_queue {
 public:
  explicit delivery_queue(const asio::any_io_executor& executor, const delivery_options& options = {});

  delivery_queue(const delivery_queue&) = delete;
  delivery_queue& operator=(const delivery_queue&) = delete;

  /// Messages that wait for their turn.
  std::size_t waiting() const noexcept { return waiting_.size(); }
  /// Whether the process was too slow, see slow_receiver::disconnect.
  bool is_closed() const noexcept { return closed_; }

  /// Waits for a turn, and calls `carry()` then, an awaitable<receipt>. `who` is what the receipt says of a message
  /// that has no turn; `give_up()` is called when the process is to be disconnected.
  ///
  /// Cancelling throws operation_aborted.
  template <class Carry, class GiveUp>
  asio::awaitable<receipt> deliver(member who, Carry carry, GiveUp give_up) {
    if (closed_) co_return detail::not_delivered(std::move(who), undelivered::slow);
    if (in_flight_ < options_.in_flight && coming_ == 0) {
      ++in_flight_;
    } else {
      if (in_flight_ >= options_.in_flight && waiting_.size() >= options_.queue && make_room()) {
        give_up();
        co_return detail::not_delivered(std::move(who), undelivered::slow);
      }
      queue_place mine(*this);
      co_await mine.come.wait();
      if (!mine.granted) co_return detail::not_delivered(std::move(who), mine.why);
      mine.granted = false;  // it is the guard's
      --coming_;
      grant();
    }
    const guard passes_on{*this};
    auto result = co_await carry();
    co_return result;
  }

 private:
  struct queue_place {
    explicit queue_place(delivery_queue& box)
        : owner(box), come(box.executor_), place(box.waiting_.insert(box.waiting_.end(), this)) {}
    queue_place(const queue_place&) = delete;
    ~queue_place();

    void refuse(undelivered reason);

    delivery_queue& owner;
    event come;
    std::list<queue_place*>::iterator place;
    undelivered why = undelivered::gone;
    bool queued = true;
    bool granted = false;
  };

  struct guard {
    delivery_queue& owner;
    ~guard() { owner.pass_on(); }
  };

  void pass_on();

  void grant();

  /// True if the process is given up instead.
  bool make_room();

  asio::any_io_executor executor_;
  delivery_options options_;
  std::list<queue_place*> waiting_;
  std::size_t in_flight_ = 0;
  std::size_t coming_ = 0;  // whose turn has come, and who go on in a later turn of the loop: nobody may overtake them
  bool closed_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "delivery_queue.ipp"
#endif
