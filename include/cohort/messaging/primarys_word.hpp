// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

#include "../core/config.hpp"

namespace cohort::detail {

/// Whether a message of the type with this fingerprint is the primary's to send alone: agent_gone and agent_back.
bool is_primarys_word(std::uint64_t type);

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "primarys_word.ipp"
#endif
