// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/task_group.hpp"
#include "../cluster.hpp"
#include "../options.hpp"

namespace cohort::detail {

/// Does what the options say to signals, until it is cancelled. Reloads and upgrades go on in `tasks`. `environment` is
/// what cluster::upgrade() is called with.
asio::awaitable<void> handle_signals(cluster& primary, std::map<int, cluster_action> actions,
                                     std::vector<std::pair<std::string, std::string>> environment, task_group& tasks);

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "signals.ipp"
#endif
