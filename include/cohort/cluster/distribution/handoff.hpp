// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../core/event.hpp"
#include "../../core/task_group.hpp"
#include "../../ipc/handle.hpp"
#include "../../net/acceptor.hpp"
#include "../supervision/worker_process.hpp"
#include "distributor.hpp"
#include "pickers.hpp"

namespace cohort {

/// How a connection gets to a worker that does not take it from worker_process::peer: see worker_dialect.
struct handing_over {
  /// Gives the socket to a worker. True: the worker has it. False: it cannot take one more now, and should not be asked
  /// again at once. The socket is the caller's still in that case, and when this throws as channel::send_handle() does.
  std::function<asio::awaitable<bool>(const worker_ptr& who, any_handle& socket)> give;
  /// How many a worker may be given before it has answered the first one, at most handoff_distributor::max_in_flight.
  std::size_t max_in_flight = 0;
};

/// The distributions of which the primary accepts: it leases each socket to a worker that a picker chooses. The queue
/// of accepted sockets belongs to the listener, not to a worker: one that dies or refuses leaves what it has not taken
/// to the others.
class handoff_distributor final : public distributor {
 public:
  // Leases that a worker has not answered. More would only wait in its channel instead of in the kernel's queue.
  static constexpr std::size_t max_in_flight = 32;

  /// `max_open`: connections that a worker may have, 0 for no limit. `failed(std::exception_ptr)` is called when the
  /// listener breaks, for good.
  handoff_distributor(const asio::any_io_executor& executor, descriptor socket, std::uint32_t number, picking how,
                      std::size_t max_open, std::function<void(std::exception_ptr)> failed,
                      queue_owner owner = queue_owner::cluster, handing_over by = {});

  void join(const worker_ptr& who) override;

  void leave(const worker_ptr& who) override;

  asio::awaitable<void> stop() override;

  void cancel() override;

  std::vector<int> sockets() const override;

  void on_ended() override { changed_.notify(); }

  bool workers_accept() const noexcept override { return false; }

  bool is_overdue(const worker_process& who, std::chrono::milliseconds limit) const override;

 private:
  // A worker that has refused a connection is left alone for so long.
  static constexpr std::chrono::milliseconds rest_time{20};

  struct worker_entry {
    explicit worker_entry(worker_ptr w) : who(std::move(w)) {}
    worker_ptr who;
    std::size_t in_flight = 0;
    std::array<worker_process::clock::time_point, max_in_flight> begun{};  // of those leases; none where it is zero
    bool gone = false;   // its channel has ended, which leave() will follow
    bool rests = false;  // it has refused a connection
  };

  // One of a worker's leases, from the choice of the worker to its answer.
  class lease_guard {
   public:
    lease_guard() = default;
    lease_guard(handoff_distributor& owner, std::shared_ptr<worker_entry> at);
    lease_guard(lease_guard&& other) noexcept = default;
    lease_guard& operator=(lease_guard&& other) noexcept;
    ~lease_guard() { release(); }

    explicit operator bool() const noexcept { return at_ != nullptr; }
    const worker_ptr& who() const noexcept { return at_->who; }

    /// The worker has it.
    void keep();

    void release();

    /// The worker is gone: nobody should choose it again.
    void lose();

    /// The worker does not want it: nobody should choose it for a while.
    void refuse();

   private:
    handoff_distributor* owner_ = nullptr;
    std::shared_ptr<worker_entry> at_;
    std::size_t place_ = 0;  // in worker_entry::begun
  };

  // A socket without a worker to go to. While there is one nothing more is accepted, so that it comes first.
  struct undelivered_guard {
    explicit undelivered_guard(handoff_distributor& o) : owner(o) { ++owner.undelivered_; }
    undelivered_guard(const undelivered_guard&) = delete;
    ~undelivered_guard();
    handoff_distributor& owner;
  };

  /// Whether a worker can be chosen. One that has many leases to answer cannot, not even where the picker would choose
  /// it for this client: what it leaves in its channel would keep everybody else waiting.
  bool is_free(const worker_entry& at) const;

  // A socket whose number says that the descriptor table is nearly full (accept(2) takes the lowest one that is free).
  // While there is one nothing more is accepted: the rest of the table is for starting workers, without whom a table
  // full of connections would stay full.
  struct high_number {
    high_number(handoff_distributor& o, int fd);
    high_number(high_number&& other) noexcept : owner(std::exchange(other.owner, nullptr)) {}
    ~high_number();
    handoff_distributor* owner;  // none if the number is not high
  };

  // A socket on its way to the worker of its lease.
  struct delivery {
    any_handle socket;
    lease_guard to;
    high_number crowds;
  };
  using deliveries = std::list<delivery>;

  /// Three quarters of the descriptors that this process may have.
  static int crowded_from() noexcept;

  /// Whether there is a worker for one more from the kernel's queue.
  bool has_room() const;

  /// The worker for this connection; none if all are full or there is none.
  lease_guard pick(const any_handle& connection);

  asio::awaitable<void> accept();

  /// Takes what waits in the kernel's queue, as room comes for it, and closes the listener then: what has got through
  /// the handshake expects an answer.
  asio::awaitable<void> empty_queue();

  void deliver_soon(descriptor accepted);

  /// Gives away what is accepted in this turn of the loop: to each worker its part at once.
  asio::awaitable<void> hand_out();

  /// Gives all of these to one worker, and those that it does not take to others.
  asio::awaitable<void> give(worker_ptr who, deliveries those);

  /// Gives the socket to the worker of a lease; false if that wants no more now. Otherwise as channel::send_handle().
  asio::awaitable<bool> hand_to(worker_ptr who, any_handle& socket);

  /// Leaves a worker alone for a while.
  asio::awaitable<void> rest(std::shared_ptr<worker_entry> at);

  /// Takes the socket to a worker, and to another one if that does not take it. `failed` is why the worker of the lease
  /// has not taken it already.
  asio::awaitable<void> deliver(any_handle socket, lease_guard to, std::error_code failed = {});

  task_group tasks_;
  event changed_;  // a worker came or went, or has room again
  acceptor acceptor_;
  picking how_;
  handing_over by_;
  std::vector<std::shared_ptr<worker_entry>> workers_;
  deliveries accepted_;                // for hand_out()
  std::vector<candidate> candidates_;  // while one is picked; kept for its room
  std::size_t max_open_;
  std::size_t max_in_flight_;
  std::size_t undelivered_ = 0;
  std::size_t high_numbers_ = 0;
  int crowded_from_ = crowded_from();
  std::uint32_t number_;
  bool stopping_ = false;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "handoff.ipp"
#endif
