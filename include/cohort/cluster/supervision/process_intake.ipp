// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "process_intake.hpp"

#include <utility>
#include <variant>

#include <fmt/format.h>

#include "../../core/config.hpp"
#include "../../core/scope.hpp"
#include "../../core/timeout.hpp"
#include "../../messaging/primarys_word.hpp"

namespace cohort {

COHORT_INLINE asio::awaitable<void> process_intake::take_messages(worker_ptr who) {
  const auto one = [this, &who](routed_message what) { return take(who, std::move(what)); };
  co_await who->peer.serve_calls(one);
}

COHORT_INLINE asio::awaitable<receipt> process_intake::take(worker_ptr who, routed_message what) {
  what.from = who->as_member();
  auto& figures = who->figures;
  const std::size_t size = what.body.size() + what.name.size();
  if (detail::is_primarys_word(what.type)) {
    ++figures.refused;
    co_return detail::not_delivered(what.from, undelivered::failed, "only the primary says this");
  }
  if (figures.bytes_under_way + size > context_.options.limits.max_bytes) {
    ++figures.refused;
    co_return detail::not_delivered(what.from, undelivered::dropped,
                                    fmt::format("more than {} bytes of its sender's are under way",
                                                context_.options.limits.max_bytes));
  }
  figures.bytes_under_way += size;
  const detail::on_exit done([&figures, size] { figures.bytes_under_way -= size; });
  auto result = co_await router_.route(std::move(what));
  co_return result;
}

COHORT_INLINE asio::awaitable<void> process_intake::take_introductions(worker_ptr who, task_group& beside,
                                                                       semaphore& turns) {
  for (;;) {
    co_await turns.acquire();  // given back at the end of the introduction
    auto given = co_await who->peer.receive_handle();
    if (!given) co_return;
    const auto* const whom = std::get_if<worker_protocol::connect_request>(&given->message);
    // Anything else would be for the receiver to find out, which may be busy with it for good: an epoll set in an epoll
    // set, for one.
    if (whom == nullptr || kind_of(given->handle.native_handle()) != handle_kind::local_socket) {
      ++who->figures.refused;
      context_.fail(*who, "it has sent what is no end of a channel");
      who->kill();
      co_return;
    }
    beside.start(introduce(who, *whom, std::move(given->handle), turns), ignored("the channel is closed then"));
  }
}

COHORT_INLINE asio::awaitable<void> process_intake::introduce(worker_ptr who, worker_protocol::connect_request whom,
                                                              any_handle end, semaphore& turns) {
  const detail::on_exit next([&turns] { turns.release(); });
  auto introducing = router_.connect(std::move(who), std::move(whom), std::move(end));
  co_await with_timeout(std::move(introducing), context_.options.limits.introduction_timeout);
}

}  // namespace cohort
