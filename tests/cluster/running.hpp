// SPDX-License-Identifier: BSL-1.0
/// A cluster whose primary is the test itself, with worker processes that serve lines (tests/verbs/line_server.hpp).
/// What compiles the cluster's coroutines stands in running.cpp, once for all tests.
#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <signal.h>

#include "../../include/cohort/cluster/cluster.hpp"
#include "../../include/cohort/net/endpoint.hpp"
#include "../process/children.hpp"
#include "../worker/client.hpp"

namespace cohort::test {

using event_kind = cluster_event::kind;

inline constexpr distribution distributions[] = {distribution::round_robin, distribution::shared,
                                                 distribution::reuse_port};

/// Options for a test: one local address, the helper as worker program.
inline cluster_options options_for(distribution how, unsigned workers) {
  cluster_options options;
  options.listen = {"127.0.0.1:0"};
  options.workers = workers;
  options.distribution = how;
  options.program = helper("worker");
  return options;
}

class running : public std::enable_shared_from_this<running> {
 public:
  running(const asio::any_io_executor& executor, cluster_options options);
  ~running();

  /// `before` is called before anything runs, which may be far when this returns.
  static std::shared_ptr<running> start(const asio::any_io_executor& executor, cluster_options options,
                                        const std::function<void(cluster&)>& before = {});

  /// Starts a cluster and waits until each of its workers has been ready.
  static asio::awaitable<std::shared_ptr<running>> ready(cluster_options options);

  std::size_t count(event_kind what) const {
    return static_cast<std::size_t>(
        std::count_if(events.begin(), events.end(), [&](const auto& each) { return each.what == what; }));
  }

  /// Waits until there have been `times` events of a kind; fails if they do not come.
  asio::awaitable<void> until(event_kind what, std::size_t times = 1);

  /// The last event of a kind, of a slot if one is given.
  const cluster_event& last(event_kind what, unsigned slot = 0) const {
    for (auto at = events.rbegin(); at != events.rend(); ++at) {
      if (at->what == what && (slot == 0 || at->slot == slot)) return *at;
    }
    throw std::runtime_error("no such event");
  }

  /// The first event of a kind.
  const cluster_event& first(event_kind what) const {
    for (const auto& each : events) {
      if (each.what == what) return each;
    }
    throw std::runtime_error("no such event");
  }

  /// Where the first event with this kind and pid stands.
  std::size_t place(event_kind what, pid_t pid) const {
    const auto at = std::find_if(events.begin(), events.end(),
                                 [&](const auto& each) { return each.what == what && each.pid == pid; });
    return static_cast<std::size_t>(at - events.begin());
  }

  /// The worker that became ready last in a slot.
  pid_t pid(unsigned slot) const { return last(event_kind::ready, slot).pid; }

  asio::ip::tcp::endpoint at(std::size_t number = 0) const {
    for (const auto& each : events) {
      if (each.what == event_kind::listening && number-- == 0) return parse_endpoint(each.text);
    }
    throw std::runtime_error("not listening");
  }

  /// Reloads. All events of it have come when it is over.
  asio::awaitable<reload_result> reload();

  asio::awaitable<int> ended(std::chrono::milliseconds limit = patience - 1s);

  asio::awaitable<int> stop();

  std::string text() const;

  cluster primary;
  std::vector<cluster_event> events;
  bool all_events = false;
  std::exception_ptr failure;
  std::optional<int> status;

 private:
  static asio::awaitable<void> collect(std::shared_ptr<running> self);

  std::size_t reloads_ = 0;
};

/// What a cluster with such options says when it does not start.
asio::awaitable<std::string> refusal(cluster_options options);

/// Clients that come one after the other, each with one request, until stop().
class client_loop : public std::enable_shared_from_this<client_loop> {
 public:
  static std::shared_ptr<client_loop> start(const asio::any_io_executor& executor, asio::ip::tcp::endpoint to,
                                            std::string request, std::size_t parallel);

  asio::awaitable<void> stop();

  /// Waits for so many more answers.
  asio::awaitable<void> more(std::size_t count);

  std::size_t failures() const {
    return static_cast<std::size_t>(
        std::count_if(answers.begin(), answers.end(), [](const auto& each) { return each.starts_with('('); }));
  }

  std::vector<std::string> answers;

 private:
  static asio::awaitable<void> run(std::shared_ptr<client_loop> self, asio::ip::tcp::endpoint to, std::string request);

  std::size_t running_ = 0;
  bool stopped_ = false;
};

}  // namespace cohort::test
