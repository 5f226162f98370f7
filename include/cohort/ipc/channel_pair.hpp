// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <utility>

#include "../core/descriptor.hpp"
#include "../core/error.hpp"

namespace cohort {

/// The two connected ends of a channel, close-on-exec. Throws what socketpair(2) says.
std::pair<descriptor, descriptor> make_channel_pair();

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "channel_pair.ipp"
#endif
