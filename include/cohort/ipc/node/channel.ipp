// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "channel.hpp"

#include "../../core/config.hpp"

namespace cohort::detail {

COHORT_INLINE asio::awaitable<void> fail_with(std::exception_ptr failure) {
  std::rethrow_exception(failure);
  co_return;
}

COHORT_INLINE asio::awaitable<void> give_node_handle(asio::awaitable<void> sent, handle_ref object) {
  co_await std::move(sent);
  object.taken();
}

}  // namespace cohort::detail
