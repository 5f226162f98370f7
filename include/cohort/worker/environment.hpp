// SPDX-License-Identifier: BSL-1.0
/// What a cluster's primary tells its processes by environment variables, when it starts them.
#pragma once

#include "../messaging/delivery.hpp"

namespace cohort::detail {

inline constexpr const char* slot_variable = "COHORT_SLOT";
inline constexpr const char* generation_variable = "COHORT_GENERATION";
inline constexpr const char* agent_variable = "COHORT_AGENT";

/// This process as the others of its cluster know it. Without a cluster, a member of slot 0 that is no agent.
member this_member();

/// How many times the cluster had been reloaded when this process was started, from 1 on. 0 without a cluster.
unsigned this_generation();

/// Removes the variables, when they have been read: a program that this process starts is no member of the cluster.
void forget_environment();

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "environment.ipp"
#endif
