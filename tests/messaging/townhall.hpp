// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../cluster/running.hpp"
#include "town.hpp"

namespace cohort::test {

/// A cluster of processes that talk, with the test as the primary.
class townhall {
 public:
  template <class... Arguments>
  static cluster_options options(unsigned workers, const Arguments&... arguments) {
    auto result = options_for(distribution::round_robin, workers);
    result.program = helper("town", arguments...);
    return result;
  }

  template <class... Arguments>
  static agent_options agent(const std::string& name, const Arguments&... arguments) {
    agent_options result(name);
    result.command = helper("town", arguments...);
    return result;
  }

  static asio::awaitable<std::unique_ptr<townhall>> open(cluster_options options) {
    const auto all = options.worker_count() + options.agents.size();
    auto result = std::make_unique<townhall>(running::start(co_await asio::this_coro::executor, std::move(options)));
    co_await result->c->until(event_kind::ready, all);
    co_return result;
  }

  explicit townhall(std::shared_ptr<running> cluster) : c(std::move(cluster)), talk(c->primary) {
    talk.on<town::report>([this](const town::report& what) { reports.push_back(what); });
  }

  /// What a process has heard.
  asio::awaitable<std::string> heard(recipient who) {
    reports.clear();
    const town::question what;
    const auto became = co_await talk.send_to(who, what);
    co_return became.complete() && !reports.empty() ? reports.back().text : to_string(became);
  }

  /// Waits until a process has heard something; what it has heard then.
  asio::awaitable<std::string> until_heard(recipient who, std::string what) {
    std::string text;
    const auto end = std::chrono::steady_clock::now() + patience / 2;
    do {
      text = co_await heard(who);
      if (text.find(what) != std::string::npos) break;
      co_await sleep(2ms);
    } while (std::chrono::steady_clock::now() < end);
    co_return text;
  }

  /// Has a process send news, and tells what became of it.
  asio::awaitable<town::report> obey(recipient who, std::string to, std::uint32_t number, bool directly = false) {
    reports.clear();
    town::order what;
    what.to = std::move(to);
    what.first = number;
    what.directly = directly;
    const auto became = co_await talk.send_to(who, what);
    if (!became.complete() || reports.empty()) {
      town::report none;
      none.text = "(" + to_string(became) + ")";
      co_return none;
    }
    co_return reports.back();
  }

  pid_t agent_pid(const std::string& name) const {
    for (auto at = c->events.rbegin(); at != c->events.rend(); ++at) {
      if (at->what == event_kind::ready && at->agent == name) return at->pid;
    }
    throw std::runtime_error("no such agent");
  }

  std::shared_ptr<running> c;
  town::talk talk;
  std::vector<town::report> reports;
};

}  // namespace cohort::test
