// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "direct_channels.hpp"

#include "../../core/config.hpp"

#include <exception>
#include <system_error>
#include <utility>
#include <variant>

#include "../../ipc/channel_pair.hpp"

namespace cohort::detail {

COHORT_INLINE asio::awaitable<receipt> direct_channels::send(routed_message what) {
  const auto line = line_to({what.to, what.number, what.name});
  try {
    auto result = co_await line->call<receipt>(what);
    co_return result;
  } catch (const std::system_error& error) {
    if (error.code() == asio::error::operation_aborted) throw;
  }
  co_return not_delivered(nobody_at(what), undelivered::gone);
}

COHORT_INLINE void direct_channels::accept_offer(descriptor end) {
  auto line = std::make_shared<incoming>(tasks_.get_executor(), std::move(end));
  in_.emplace(line.get(), line);
  tasks_.start(listen_to(line), [this, line](std::exception_ptr) { in_.erase(line.get()); });
  tasks_.start(answer(line), ignored("listen_to() hears of the end too"));
}

COHORT_INLINE void direct_channels::decline() {
  for (const auto& [key, line] : in_) line->post_if_open(worker_protocol::draining());
}

COHORT_INLINE std::shared_ptr<direct_channels::outgoing> direct_channels::line_to(address to) {
  auto& known = out_[to];
  if (!known) {
    auto ends = make_channel_pair();
    known = std::make_shared<outgoing>(tasks_.get_executor(), std::move(ends.first));
    tasks_.start(watch(to, known), ignored("it catches what the channel throws"));
    tasks_.start(offer(to, std::move(ends.second)), ignored("the end is closed then, and the calls say so"));
  }
  return known;
}

COHORT_INLINE asio::awaitable<void> direct_channels::offer(address to, descriptor end) {
  worker_protocol::connect_request request;
  std::tie(request.to, request.number, request.name) = to;
  co_await primary_.send_handle(request, std::move(end));
}

COHORT_INLINE asio::awaitable<void> direct_channels::watch(address to, std::shared_ptr<outgoing> line) {
  try {
    while (const auto word = co_await line->receive()) {
      if (std::holds_alternative<worker_protocol::draining>(*word)) forget(to, line);
    }
  } catch (const std::system_error&) {
    // The calls say what has become of them.
  }
  forget(to, line);
}

COHORT_INLINE void direct_channels::forget(const address& to, const std::shared_ptr<outgoing>& line) {
  const auto at = out_.find(to);
  if (at != out_.end() && at->second == line) out_.erase(at);
}

COHORT_INLINE asio::awaitable<void> direct_channels::listen_to(std::shared_ptr<incoming> line) {
  while (const auto word = co_await line->receive()) continue;
}

COHORT_INLINE asio::awaitable<void> direct_channels::answer(std::shared_ptr<incoming> line) {
  co_await line->serve_calls([this](routed_message what) { return here_.receive(std::move(what)); });
}

COHORT_INLINE member direct_channels::nobody_at(const routed_message& what) {
  member who;
  const auto to = address_of(what);
  if (to.what() == recipient::kind::slot) who.slot = static_cast<std::uint32_t>(what.number);
  if (to.what() == recipient::kind::process) who.pid = static_cast<std::int32_t>(what.number);
  who.agent = what.name;
  return who;
}

}  // namespace cohort::detail
