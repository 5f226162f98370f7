// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "endpoint.hpp"

#include "../core/config.hpp"

#include <exception>
#include <vector>

#include "../core/scope.hpp"
#include "../core/text_of.hpp"

namespace cohort {

COHORT_INLINE asio::awaitable<receipt> message_endpoint::send(const recipient& to, std::uint64_t type, std::string body,
                                                              bool directly) {
  routed_message what;
  what.to = static_cast<std::uint8_t>(to.what());
  what.number = to.number();
  what.name = to.name();
  what.from = self_;
  what.type = type;
  what.body = std::move(body);
  return hand_in(std::move(what), directly);
}

COHORT_INLINE asio::awaitable<receipt> message_endpoint::receive(routed_message what) {
  receipt result;
  std::vector<std::shared_ptr<registration>> to;
  for (const auto& each : listeners_) {
    if (each->type == what.type) to.push_back(each);
  }
  if (to.empty() && !ignored_.contains(what.type)) {
    co_return detail::not_delivered(self_, undelivered::unheard);
  }
  for (const auto& each : to) {
    if (each->removed) continue;
    if (each->once) remove(each->number);
    try {
      co_await each->call(what.body, what.from);
    } catch (...) {
      result.failures.push_back({self_, undelivered::failed, detail::text_of(std::current_exception())});
    }
  }
  if (result.failures.size() > 1) result.failures.resize(1);
  result.delivered = result.failures.empty() ? 1 : 0;
  co_return result;
}

COHORT_INLINE std::uint64_t message_endpoint::add(std::uint64_t type, listener call, bool once) {
  listeners_.push_back(std::make_shared<registration>(registration{++last_, type, std::move(call), once, false}));
  return last_;
}

COHORT_INLINE void message_endpoint::remove(std::uint64_t number) {
  for (auto at = listeners_.begin(); at != listeners_.end(); ++at) {
    if ((*at)->number != number) continue;
    (*at)->removed = true;
    listeners_.erase(at);
    return;
  }
}

COHORT_INLINE void message_endpoint::unignore(std::uint64_t type) {
  if (const auto at = ignored_.find(type); at != ignored_.end()) ignored_.erase(at);
}

COHORT_INLINE asio::awaitable<receipt> message_endpoint::hand_in(routed_message what, bool directly) {
  co_await permits_.acquire();
  const detail::on_exit give_back([this] { permits_.release(); });
  auto result = co_await carry_(std::move(what), directly);
  co_return result;
}

}  // namespace cohort
