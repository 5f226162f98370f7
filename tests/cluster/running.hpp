// SPDX-License-Identifier: BSL-1.0
/// A cluster whose primary is the test itself, with worker processes that serve lines (tests/verbs/line_server.hpp).
#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <signal.h>

#include "../../include/cohort/cluster/cluster.hpp"
#include "../process/children.hpp"
#include "../worker/client.hpp"

namespace cohort::test {

using event_kind = cluster_event::kind;

inline constexpr distribution distributions[] = {distribution::round_robin, distribution::shared,
                                                 distribution::reuse_port};

/// Options for a test: one local address, the helper as worker program.
inline cluster_options options_for(distribution how, unsigned workers) {
  cluster_options options;
  options.listen("127.0.0.1:0").workers(workers).distribute(how).command(helper("worker"));
  return options;
}

class running : public std::enable_shared_from_this<running> {
 public:
  running(const asio::any_io_executor& executor, cluster_options options) : primary(executor, std::move(options)) {}

  static std::shared_ptr<running> start(const asio::any_io_executor& executor, cluster_options options) {
    auto self = std::make_shared<running>(executor, std::move(options));
    asio::co_spawn(executor, self->primary.run(), [self](std::exception_ptr thrown, int returned) {
      self->failure = thrown;
      self->status = returned;
    });
    asio::co_spawn(executor, collect(self), asio::detached);
    return self;
  }

  /// Starts a cluster and waits until all of its workers are ready.
  static asio::awaitable<std::shared_ptr<running>> ready(cluster_options options) {
    const auto workers = options.worker_count();
    auto self = start(co_await asio::this_coro::executor, std::move(options));
    co_await self->until(event_kind::ready, workers);
    co_return self;
  }

  std::size_t count(event_kind what) const {
    return static_cast<std::size_t>(
        std::count_if(events.begin(), events.end(), [&](const auto& each) { return each.what == what; }));
  }

  /// Waits until there have been `times` events of a kind; fails if they do not come.
  asio::awaitable<void> until(event_kind what, std::size_t times = 1) {
    const bool seen = co_await eventually([&] { return count(what) >= times; }, patience - 1s);
    if (!seen) FAIL("no event ", static_cast<int>(what), ", times ", times, "; there are:\n", text());
  }

  /// The last event of a kind, of a slot if one is given.
  const cluster_event& last(event_kind what, unsigned slot = 0) const {
    for (auto at = events.rbegin(); at != events.rend(); ++at) {
      if (at->what == what && (slot == 0 || at->slot == slot)) return *at;
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

  asio::awaitable<int> ended(std::chrono::milliseconds limit = patience - 1s) {
    const bool done = co_await eventually([&] { return status.has_value() && all_events; }, limit);
    if (!done) FAIL("the cluster has not ended; there are:\n", text());
    if (failure) std::rethrow_exception(failure);
    co_return *status;
  }

  asio::awaitable<int> stop() {
    primary.stop("the test ends");
    co_return co_await ended();
  }

  std::string text() const {
    std::string result;
    for (const auto& each : events) result += to_string(each) + '\n';
    return result;
  }

  cluster primary;
  std::vector<cluster_event> events;
  bool all_events = false;
  std::exception_ptr failure;
  std::optional<int> status;

 private:
  static asio::awaitable<void> collect(std::shared_ptr<running> self) {
    while (auto event = co_await self->primary.next_event()) self->events.push_back(*event);
    self->all_events = true;
  }
};

/// Clients that come one after the other, each with one request, until stop().
class client_loop : public std::enable_shared_from_this<client_loop> {
 public:
  static std::shared_ptr<client_loop> start(const asio::any_io_executor& executor, asio::ip::tcp::endpoint to,
                                            std::string request, std::size_t parallel) {
    auto self = std::make_shared<client_loop>();
    self->running_ = parallel;
    for (std::size_t i = 0; i < parallel; ++i) asio::co_spawn(executor, run(self, to, request), asio::detached);
    return self;
  }

  asio::awaitable<void> stop() {
    stopped_ = true;
    const bool ended = co_await eventually([this] { return running_ == 0; });
    CHECK_MESSAGE(ended, "a client waits for its answer");
  }

  /// Waits for so many more answers.
  asio::awaitable<void> more(std::size_t count) {
    const auto enough = answers.size() + count;
    const bool came = co_await eventually([&] { return answers.size() >= enough; });
    CHECK_MESSAGE(came, "the answers stop");
  }

  std::size_t failures() const {
    return static_cast<std::size_t>(
        std::count_if(answers.begin(), answers.end(), [](const auto& each) { return each.starts_with('('); }));
  }

  std::vector<std::string> answers;

 private:
  static asio::awaitable<void> run(std::shared_ptr<client_loop> self, asio::ip::tcp::endpoint to, std::string request) {
    while (!self->stopped_) {
      std::string answer;
      try {
        answer = co_await ask_once(to, request);
      } catch (const std::system_error& error) {
        answer = std::string("(") + error.what() + ")";
      }
      self->answers.push_back(answer);
    }
    --self->running_;
  }

  std::size_t running_ = 0;
  bool stopped_ = false;
};

}  // namespace cohort::test
