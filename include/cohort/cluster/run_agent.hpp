// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../worker/options.hpp"
#include "agent.hpp"

namespace cohort {

namespace detail {

/// Runs agent_options::run, and again if it has thrown and is to.
asio::awaitable<void> run_again_and_again(const agent_options& what, worker& self);

}  // namespace detail

/// The whole of an agent's process: what serve() does in it. `shared` is the worker_options of its cluster, whose title
/// and jobs are the agent's too.
int run_agent(const agent_options& options, const worker_options& shared = {});

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "run_agent.ipp"
#endif
