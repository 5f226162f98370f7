// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/task_group.hpp"
#include "../cluster.hpp"
#include "../options.hpp"

namespace cohort::detail {

/// `SIGTERM`, `SIGRTMIN+3`.
std::string signal_name(int number);

/// What the primary of serve() does on signals.
///
/// Distinct objects: safe. Shared objects: unsafe. Must outlive run(), and `tasks` what this starts there.
class signal_actions {
 public:
  using variables = std::vector<std::pair<std::string, std::string>>;

  /// `environment` is what cluster::upgrade() is called with. `failed` is told what an action has thrown, which ends
  /// nothing. `look` is called on the signals that say that files were moved: see control_server::look().
  signal_actions(cluster& primary, const std::map<int, cluster_action>& actions, variables environment,
                 task_group& tasks, std::function<void(const std::string&)> failed, std::function<void()> look);

  /// Until it is cancelled. Unblocks the signals, which whoever started this program may have blocked. Reloads and
  /// upgrades go on in `tasks`; of those that have not begun, all are one.
  asio::awaitable<void> run();

 private:
  void act(cluster_action what, const std::string& name);
  void stop(const std::string& name);
  void scale_by(int difference);

  cluster& primary_;
  std::map<int, cluster_action> actions_;
  variables environment_;
  task_group& tasks_;
  std::function<void(const std::string&)> failed_;
  std::function<void()> look_;
  std::size_t reloads_ = 0, upgrades_ = 0;
  std::optional<std::chrono::steady_clock::time_point> stop_asked_;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "signals.ipp"
#endif
