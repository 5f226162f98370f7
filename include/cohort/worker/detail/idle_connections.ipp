// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "idle_connections.hpp"

#include "../../core/config.hpp"

#include <cmath>
#include <cstddef>
#include <utility>

#include <poll.h>

#include "../../core/asio_error.hpp"

namespace cohort::detail {

COHORT_INLINE void idle_connections::close(double part) {
  std::size_t all = 0;
  for (idle_wait* each = first_; each != nullptr; each = each->next_) all += each->told_ ? 0 : 1;
  auto due = static_cast<std::size_t>(std::ceil(static_cast<double>(all) * part));
  for (idle_wait *each = first_, *next = nullptr; each != nullptr && due > 0; each = next) {
    next = each->next_;
    if (std::exchange(each->told_, true)) continue;
    each->wake_.emit(asio::cancellation_type::terminal);
    --due;
  }
}

COHORT_INLINE void idle_connections::close_all() {
  over_ = true;
  close(1);
}

COHORT_INLINE idle_wait::idle_wait(idle_connections& owner, const asio::cancellation_state& outer)
    : owner_(owner), outer_(outer), linked_(!owner.over_) {
  if (!linked_) return;
  next_ = owner_.first_;
  if (next_ != nullptr) next_->previous_ = this;
  owner_.first_ = this;
  if (outer_.slot().is_connected()) {
    outer_.slot().assign([this](asio::cancellation_type type) { wake_.emit(type); });
  }
}

COHORT_INLINE idle_wait::~idle_wait() {
  if (!linked_) return;
  if (next_ != nullptr) next_->previous_ = previous_;
  (previous_ != nullptr ? previous_->next_ : owner_.first_) = next_;
}

COHORT_INLINE bool idle_wait::result(int fd) {
  if (linked_) {
    if (outer_.slot().is_connected()) outer_.slot().clear();
    if (!error_) return true;
    if (!told_ || error_ != operation_aborted() || outer_.cancelled() != asio::cancellation_type::none) {
      throw std::system_error(error_, "readable");
    }
  }
  pollfd look{fd, POLLIN, 0};
  return ::poll(&look, 1, 0) > 0;
}

}  // namespace cohort::detail
