// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../worker/options.hpp"
#include "agent.hpp"

namespace cohort {

/// The whole of an agent's process: what serve() does in it. `shared` is the worker_options of its cluster, whose title
/// and jobs are the agent's too.
int run_agent(const agent_options& options, const worker_options& shared = {});

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "run_agent.ipp"
#endif
