// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "delivery_queue.hpp"

#include "../core/config.hpp"

#include <algorithm>
#include <utility>

#include "../core/scope.hpp"

namespace cohort {

COHORT_INLINE delivery_queue::delivery_queue(const asio::any_io_executor& executor, const delivery_options& options)
    : options_(options), turns_(executor, std::max<std::size_t>(options.in_flight, 1)) {}

COHORT_INLINE asio::awaitable<receipt> delivery_queue::deliver(member who,
                                                               std::function<asio::awaitable<receipt>()> carry,
                                                               std::function<void()> give_up) {
  if (closed_) co_return detail::not_delivered(std::move(who), undelivered::slow);
  if (turns_.available() == 0 && waiting() >= std::max<std::size_t>(options_.queue, 1)) make_room();
  if (closed_) {
    give_up();
    co_return detail::not_delivered(std::move(who), undelivered::slow);
  }
  const bool has_turn = co_await turns_.acquire();
  if (!has_turn) co_return detail::not_delivered(std::move(who), closed_ ? undelivered::slow : undelivered::dropped);
  const detail::on_exit next([this] { turns_.release(); });
  auto result = co_await carry();
  co_return result;
}

COHORT_INLINE void delivery_queue::make_room() {
  switch (options_.slow) {
    case slow_receiver::block: break;
    case slow_receiver::drop_oldest: turns_.refuse_oldest(); break;
    case slow_receiver::disconnect:
      closed_ = true;
      turns_.refuse_all();
      break;
  }
}

}  // namespace cohort
