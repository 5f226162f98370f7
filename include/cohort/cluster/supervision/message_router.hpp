// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <unistd.h>

#include "../../core/asio.hpp"
#include "../../core/error.hpp"
#include "../../core/task_group.hpp"
#include "../../ipc/handle.hpp"
#include "../../worker/protocol.hpp"
#include "../../messaging/delivery.hpp"
#include "../../messaging/endpoint.hpp"
#include "../../messaging/delivery_queue.hpp"
#include "worker_process.hpp"

namespace cohort {

/// The primary's part in the messages of a cluster: takes each to the processes that it is for, and collects what
/// becomes of it.
///
/// Distinct objects: safe. Shared objects: unsafe. Must outlive the deliveries.
class message_router {
 public:
  using worker_ptr = std::shared_ptr<worker_process>;
  using process_list = std::vector<worker_ptr>;

  /// `too_slow` is called with a process that is to get no messages any more, see slow_receiver::disconnect.
  message_router(const asio::any_io_executor& executor, const process_list& workers, const process_list& agents,
            std::function<void(const worker_ptr&)> too_slow)
      : workers_(workers),
        agents_(agents),
        too_slow_(std::move(too_slow)),
        endpoint_(executor, this_member(), [this](routed_message what, bool) { return route(std::move(what)); }) {}

  message_router(const message_router&) = delete;
  message_router& operator=(const message_router&) = delete;

  /// For what the primary itself sends and hears.
  message_endpoint& endpoint() noexcept { return endpoint_; }

  /// Takes a letter where it goes, and waits for what becomes of it there. Cancelling throws operation_aborted.
  asio::awaitable<receipt> route(routed_message what) {
    if (is_for_primary(what)) {
      auto here = co_await endpoint_.receive(std::move(what));
      co_return here;
    }
    const auto to = receivers(what);
    if (to.empty() && detail::address_of(what).is_one()) {
      co_return detail::not_delivered(nobody_at(what), undelivered::gone);
    }
    const auto shared = std::make_shared<const routed_message>(std::move(what));
    receipt result;
    if (to.size() == 1) {
      co_await deliver(to.front(), shared, result);
      co_return result;
    }
    task_group all(endpoint_.get_executor());
    for (const auto& each : to) all.start(deliver(each, shared, result), [](std::exception_ptr) {});
    std::exception_ptr cancelled;
    try {
      co_await all.wait_empty();
    } catch (...) {
      cancelled = std::current_exception();
    }
    if (cancelled) {
      co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
      all.cancel();
      co_await all.wait_empty();
      std::rethrow_exception(cancelled);
    }
    co_return result;
  }

  /// Gives one end of a channel, whose other end `from` has, to the process that it wants to talk to; if there is none,
  /// or it does not take it, the end is closed.
  asio::awaitable<void> connect(worker_ptr from, worker_protocol::connect_request whom, any_handle end) {
    routed_message address;
    address.to = whom.to;
    address.number = whom.number;
    address.name = whom.name;
    if (!detail::address_of(address).is_one()) co_return;
    const auto to = receivers(address);
    if (to.empty()) co_return;
    worker_protocol::connect_offer word;
    word.from = from->as_member();
    co_await to.front()->peer.send_handle(word, std::move(end));
  }

 private:
  static member this_member() {
    member self;
    self.pid = ::getpid();
    return self;
  }

  static bool is_there(const worker_process& who) noexcept {
    return who.peer.is_open() && who.state() != worker_state::waiting && who.state() != worker_state::dead;
  }

  bool is_for_primary(const routed_message& what) const {
    const auto to = detail::address_of(what).what();
    return to == recipient::kind::primary || (to == recipient::kind::process && what.number == endpoint_.self().pid);
  }

  static member nobody_at(const routed_message& what) {
    const auto to = detail::address_of(what);
    member who;
    if (to.what() == recipient::kind::slot) who.slot = static_cast<std::uint32_t>(to.number());
    if (to.what() == recipient::kind::process) who.pid = static_cast<std::int32_t>(to.number());
    who.agent = to.name();
    return who;
  }

  /// The processes that are there, of those that a letter is for.
  process_list receivers(const routed_message& what) {
    const auto to = detail::address_of(what);
    process_list result;
    const auto add = [&result](const process_list& from, auto&& wanted) {
      for (const auto& each : from) {
        if (is_there(*each) && wanted(*each)) result.push_back(each);
      }
    };
    const auto any = [](const worker_process&) { return true; };
    switch (to.what()) {
      case recipient::kind::everyone:
        add(workers_, any);
        add(agents_, any);
        break;
      case recipient::kind::workers: add(workers_, any); break;
      case recipient::kind::any_worker:
        add(workers_, [](const worker_process& who) { return who.is_serving(); });
        if (result.size() > 1) {
          std::swap(result.front(), result[std::uniform_int_distribution<std::size_t>(0, result.size() - 1)(random_)]);
          result.resize(1);
        }
        break;
      case recipient::kind::slot:
        add(workers_, [&](const worker_process& who) { return who.number() == to.number(); });
        keep_best(result);
        break;
      case recipient::kind::process: {
        const auto has_pid = [&](const worker_process& who) { return who.pid() == to.number(); };
        add(workers_, has_pid);
        add(agents_, has_pid);
        break;
      }
      case recipient::kind::agent: add(agents_, [&](const worker_process& who) { return who.agent == to.name(); }); break;
      case recipient::kind::primary: break;
    }
    return result;
  }

  /// Of those in one slot, who serves; else who will; else who drains.
  static void keep_best(process_list& those) {
    const auto rank = [](const worker_ptr& who) {
      return who->is_serving() ? 0 : who->state() == worker_state::ready || who->state() == worker_state::starting ? 1 : 2;
    };
    std::stable_sort(those.begin(), those.end(), [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
    if (those.size() > 1) those.resize(1);
  }

  /// Adds to `result` what becomes of a letter at one process.
  asio::awaitable<void> deliver(worker_ptr to, std::shared_ptr<const routed_message> what, receipt& result) {
    const member who = to->as_member();
    const bool starts = to->state() == worker_state::starting;
    receipt mine;
    std::error_code failure;
    std::string text;
    try {
      mine = co_await to->deliveries.deliver(
          who, [&] { return to->peer.call<receipt>(*what); }, [&] { too_slow_(to); });
    } catch (const std::system_error& error) {
      failure = error.code();
      text = error.what();
    }
    if (failure == asio::error::operation_aborted) {
      const auto state = co_await asio::this_coro::cancellation_state;
      if (state.cancelled() != asio::cancellation_type::none) throw std::system_error(failure);
    }
    if (failure) {
      const bool told = failure == errc::call_failed || failure == errc::message_too_large;
      const auto why = failure == errc::unknown_message ? undelivered::unheard
                       : told                           ? undelivered::failed
                                                        : undelivered::gone;
      mine = detail::not_delivered(who, why, told ? text : std::string());
    }
    result.delivered += mine.delivered;
    for (auto& each : mine.failures) {
      // It has not come to adding its listeners yet.
      if (starts && each.why == undelivered::unheard) each.why = undelivered::not_ready;
      result.failures.push_back(std::move(each));
    }
  }

  const process_list& workers_;
  const process_list& agents_;
  std::function<void(const worker_ptr&)> too_slow_;
  message_endpoint endpoint_;
  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace cohort
