// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "message_router.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <system_error>

#include <unistd.h>

#include "../../core/asio_error.hpp"
#include "../../core/random.hpp"
#include "../../core/task_group.hpp"
#include "../../core/text_of.hpp"

namespace cohort {

COHORT_INLINE asio::awaitable<receipt> message_router::route(routed_message what) {
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
  for (const auto& each : to) all.start(deliver(each, shared, result), ignored("it ends this way only if cancelled"));
  std::exception_ptr cancelled;
  try {
    co_await all.wait_empty();
  } catch (...) {
    cancelled = std::current_exception();
  }
  if (cancelled) {
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    co_await all.cancel_and_wait();
    std::rethrow_exception(cancelled);
  }
  co_return result;
}

COHORT_INLINE asio::awaitable<void> message_router::connect(worker_ptr from, worker_protocol::connect_request whom,
                                                            any_handle end) {
  routed_message address;
  address.to = whom.to;
  address.number = whom.number;
  address.name = whom.name;
  if (!detail::address_of(address).is_one()) co_return;
  const auto to = receivers(address);
  if (to.empty() || to.front() == from) co_return;
  worker_protocol::connect_offer word;
  word.from = from->as_member();
  co_await to.front()->peer.send_handle(word, std::move(end));
}

COHORT_INLINE message_router::message_router(const asio::any_io_executor& executor, const worker_set& workers,
                                             const worker_set& agents, std::function<void(const worker_ptr&)> too_slow)
    : workers_(workers),
      agents_(agents),
      too_slow_(std::move(too_slow)),
      endpoint_(executor, this_member(), [this](routed_message what, bool) { return route(std::move(what)); }) {}

COHORT_INLINE member message_router::this_member() {
  member self;
  self.pid = ::getpid();
  return self;
}

COHORT_INLINE bool message_router::is_there(const worker_process& who) noexcept {
  return who.peer.is_open() && who.state() != worker_state::waiting && who.state() != worker_state::dead;
}

COHORT_INLINE bool message_router::is_for_primary(const routed_message& what) const {
  const auto to = detail::address_of(what).what();
  return to == recipient::kind::primary || (to == recipient::kind::process && what.number == endpoint_.self().pid);
}

COHORT_INLINE member message_router::nobody_at(const routed_message& what) {
  const auto to = detail::address_of(what);
  member who;
  if (to.what() == recipient::kind::slot) who.slot = static_cast<std::uint32_t>(to.number());
  if (to.what() == recipient::kind::process) who.pid = static_cast<std::int32_t>(to.number());
  who.agent = to.name();
  return who;
}

COHORT_INLINE std::vector<worker_ptr> message_router::receivers(const routed_message& what) {
  const auto to = detail::address_of(what);
  std::vector<worker_ptr> result;
  const auto add = [&result](const worker_set& from, auto&& wanted) {
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
        std::swap(result.front(), result[detail::random_index(result.size())]);
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

COHORT_INLINE void message_router::keep_best(std::vector<worker_ptr>& those) {
  const auto rank = [](const worker_ptr& who) {
    return who->is_serving() ? 0 : who->is_coming_or_ready() ? 1 : 2;
  };
  const auto best =
      std::min_element(those.begin(), those.end(), [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  if (best != those.end()) those = {*best};
}

COHORT_INLINE asio::awaitable<void> message_router::deliver(worker_ptr to, std::shared_ptr<const routed_message> what,
                                                            receipt& result) {
  const member who = to->as_member();
  const bool starts = to->state() == worker_state::starting;
  receipt mine;
  std::error_code failure;
  std::string text;
  try {
    mine = co_await to->deliveries.deliver(
        who, [&] { return to->peer.call<receipt>(*what); }, [&] { too_slow_(to); });
  } catch (...) {
    const auto error = detail::caught();
    failure = error.code();
    text = error.what();
  }
  if (failure == operation_aborted()) {
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
  // Of itself alone it can tell, and once.
  if (mine.failures.size() > 1) mine.failures.resize(1);
  result.delivered += mine.failures.empty() ? 1 : 0;
  for (auto& each : mine.failures) {
    each.who = who;
    each.what = detail::one_line(std::move(each.what));
    // It has not come to adding its listeners yet.
    if (starts && each.why == undelivered::unheard) each.why = undelivered::not_ready;
    result.failures.push_back(std::move(each));
  }
}

}  // namespace cohort
