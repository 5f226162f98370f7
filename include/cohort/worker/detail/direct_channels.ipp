// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "direct_channels.hpp"

#include "../../core/config.hpp"

#include <exception>
#include <system_error>
#include <utility>
#include <variant>

#include "../../core/asio_error.hpp"
#include "../../ipc/channel_options.hpp"
#include "../../ipc/channel_pair.hpp"
#include "../../ipc/handle.hpp"
#include "../../messaging/primarys_word.hpp"

namespace cohort::detail {

/// Of a channel to a process that this one knows by the primary's word alone.
COHORT_INLINE channel_options without_rings() {
  channel_options options;
  options.max_peer_ring = 0;
  return options;
}

COHORT_INLINE asio::awaitable<receipt> direct_channels::send(routed_message what) {
  const auto line = line_to({what.to, what.number, what.name});
  try {
    auto result = co_await line->call<receipt>(what);
    co_return result;
  } catch (...) {
    const auto error = caught();
    if (error.code() == operation_aborted()) throw;
  }
  co_return not_delivered(nobody_at(what), undelivered::gone);
}

COHORT_INLINE void direct_channels::accept_offer(descriptor end, const member& from) {
  if (kind_of(end.get()) != handle_kind::local_socket) return;
  std::shared_ptr<incoming> line;
  try {
    line = std::make_shared<incoming>(tasks_.get_executor(), std::move(end), without_rings());
  } catch (const std::exception&) {
    return;  // its sender sees the end of it
  }
  auto& known = in_[from.pid];
  if (known) known->close();
  known = line;
  tasks_.start(listen_to(line), [this, line, pid = from.pid](std::exception_ptr) {
    if (const auto at = in_.find(pid); at != in_.end() && at->second == line) in_.erase(at);
  });
  tasks_.start(answer(line, from), ignored("listen_to() hears of the end too"));
}

COHORT_INLINE void direct_channels::decline() {
  for (const auto& [key, line] : in_) line->post_if_open(worker_protocol::draining());
}

COHORT_INLINE std::shared_ptr<direct_channels::outgoing> direct_channels::line_to(address to) {
  auto& known = out_[to];
  if (!known) {
    auto ends = make_channel_pair();
    known = std::make_shared<outgoing>(tasks_.get_executor(), std::move(ends.first), without_rings());
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
  } catch (...) {
    caught();
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

COHORT_INLINE asio::awaitable<void> direct_channels::answer(std::shared_ptr<incoming> line, member from) {
  const auto one = [this, &from](routed_message what) { return take(std::move(what), from); };
  co_await line->serve_calls(one);
}

COHORT_INLINE asio::awaitable<receipt> direct_channels::take(routed_message what, const member& from) {
  if (is_primarys_word(what.type)) {
    co_return not_delivered(here_.self(), undelivered::failed, "only the primary says this");
  }
  what.from = from;
  auto result = co_await here_.receive(std::move(what));
  co_return result;
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
