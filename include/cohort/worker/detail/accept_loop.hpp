// SPDX-License-Identifier: BSL-1.0
/// A worker's accepting, on listeners that come and go.
///
/// The worker's connection_set owns it. It runs on the worker's executor.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "../../core/asio.hpp"
#include "../../core/event.hpp"
#include "../../ipc/handle.hpp"
#include "../../net/acceptor.hpp"

namespace cohort::detail {

/// Distinct objects: safe. Shared objects: unsafe. Must outlive what it has started.
class accept_loop {
 public:
  /// The number of a listener, and of the grant by which it came.
  using key = std::pair<std::uint32_t, std::uint32_t>;

  /// `start(awaitable<void>)` runs a coroutine, `has_room()` says whether one more connection may be accepted, and
  /// `serve(any_handle)` gets each.
  accept_loop(const asio::any_io_executor& executor, std::function<void(asio::awaitable<void>)> start,
              std::function<bool()> has_room, std::function<void(any_handle)> serve)
      : start_(std::move(start)), has_room_(std::move(has_room)), serve_(std::move(serve)), room_(executor) {}

  /// Accepts on this one from now on, instead of the one that has had its key.
  void add(key which, std::shared_ptr<acceptor> on);

  void close(key which);

  void close_all();

  /// Accepts everything that is in the listeners' queues, whether there is room or not, and nothing after that.
  ///
  /// A listener for whose connections there are no descriptors now stays open until there are some: `wait` gets the
  /// awaitable<void> that does that, and may cancel it.
  void accept_what_waits(const std::function<void(asio::awaitable<void>)>& wait);

  /// There may be room again.
  void note_room() { room_.notify(); }

  /// Waits for note_room(), or until a listener is closed.
  asio::awaitable<void> wait_room() { return room_.wait(); }

 private:
  asio::awaitable<void> accept_on(std::shared_ptr<acceptor> on);

  acceptor::taker server_of(const acceptor& on) const;

  /// False when there are not enough descriptors.
  bool accept_all(acceptor& on);

  asio::awaitable<void> accept_rest(std::shared_ptr<acceptor> on);

  std::function<void(asio::awaitable<void>)> start_;
  std::function<bool()> has_room_;
  std::function<void(any_handle)> serve_;
  std::map<key, std::shared_ptr<acceptor>> listeners_;
  event room_;
  bool emptying_ = false;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "accept_loop.ipp"
#endif
