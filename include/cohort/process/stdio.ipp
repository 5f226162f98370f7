// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "stdio.hpp"

#include "../core/config.hpp"

namespace cohort {

COHORT_INLINE stdio::stdio(descriptor owned)
    : kind_(kind::number), owned_(std::make_shared<descriptor>(std::move(owned))) {
  number_ = owned_->get();
}

COHORT_INLINE stdio stdio::borrow(int fd) {
  stdio result(kind::number);
  result.number_ = fd;
  return result;
}

COHORT_INLINE stdio stdio::same_as(int number) {
  stdio result(kind::same);
  result.number_ = number;
  return result;
}

}  // namespace cohort
