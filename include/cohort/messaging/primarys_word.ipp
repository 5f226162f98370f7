// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "primarys_word.hpp"

#include "../core/config.hpp"
#include "../ipc/codec/codec.hpp"
#include "../ipc/codec/schema.hpp"
#include "delivery.hpp"

namespace cohort::detail {

COHORT_INLINE bool is_primarys_word(std::uint64_t type) {
  return type == fingerprint<agent_gone>() || type == fingerprint<agent_back>();
}

}  // namespace cohort::detail
