// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "idle_connections.hpp"

#include "../../core/config.hpp"

#include <cmath>
#include <cstddef>
#include <utility>

namespace cohort {

COHORT_INLINE void idle_connections::close(double part) {
  std::size_t all = 0;
  for (waiting* each = first_; each != nullptr; each = each->next) all += each->told ? 0 : 1;
  auto due = static_cast<std::size_t>(std::ceil(static_cast<double>(all) * part));
  for (waiting *each = first_, *next = nullptr; each != nullptr && due > 0; each = next) {
    next = each->next;
    if (std::exchange(each->told, true)) continue;
    each->wake.emit(asio::cancellation_type::terminal);
    --due;
  }
}

COHORT_INLINE void idle_connections::close_all() {
  over_ = true;
  close(1);
}

COHORT_INLINE idle_connections::waiting::waiting(idle_connections& o) : owner(o), next(o.first_) {
  if (next) next->previous = this;
  owner.first_ = this;
}

COHORT_INLINE idle_connections::waiting::~waiting() {
  if (next) next->previous = previous;
  (previous ? previous->next : owner.first_) = next;
}

}  // namespace cohort
