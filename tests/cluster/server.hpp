// SPDX-License-Identifier: BSL-1.0
/// A clustered server whose primary is a process of its own: the verb `serve`.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <sys/prctl.h>
#include <sys/wait.h>

#include "../../include/cohort/net/endpoint.hpp"
#include "../../include/cohort/cluster/events.hpp"
#include "../../include/cohort/process/spawn.hpp"
#include "../process/children.hpp"

namespace cohort::test {

using kind = cluster_event::kind;

/// A server whose primary prints its events (see the verb `serve`).
class server : public std::enable_shared_from_this<server> {
 public:
  struct event {
    kind what;
    unsigned slot;
    pid_t pid;
    std::string text;
  };

  static asio::awaitable<std::shared_ptr<server>> start(command program) {
    auto self = std::make_shared<server>();
    self->primary = co_await spawn(std::move(program.out(stdio::pipe)));
    asio::co_spawn(co_await asio::this_coro::executor, read(self), asio::detached);
    co_return self;
  }

  /// Starts one with two workers on a port of the kernel's choice, and waits until they are ready.
  template <class... Options>
  static asio::awaitable<std::shared_ptr<server>> ready(Options... options) {
    auto self = co_await start(helper("serve", "listen=127.0.0.1:0", "workers=2", options...));
    co_await self->until(kind::ready, 2);
    co_return self;
  }

  std::size_t count(kind what) const {
    return static_cast<std::size_t>(
        std::count_if(events.begin(), events.end(), [&](const auto& each) { return each.what == what; }));
  }

  asio::awaitable<void> until(kind what, std::size_t times = 1) {
    const bool seen = co_await eventually([&] { return count(what) >= times; });
    if (!seen) FAIL("no event ", static_cast<int>(what), ", times ", times, "; there are:\n", all_text());
  }

  std::vector<pid_t> pids(kind what) const {
    std::vector<pid_t> result;
    for (const auto& each : events) {
      if (each.what == what) result.push_back(each.pid);
    }
    return result;
  }

  /// The last event of a kind.
  const event& last(kind what) const {
    const auto found =
        std::find_if(events.rbegin(), events.rend(), [&](const auto& each) { return each.what == what; });
    if (found == events.rend()) throw std::runtime_error("no such event");
    return *found;
  }

  asio::ip::tcp::endpoint at() const {
    const auto first =
        std::find_if(events.begin(), events.end(), [](const auto& e) { return e.what == kind::listening; });
    return parse_endpoint(first->text.substr(first->text.rfind(' ') + 1));
  }

  /// The primary's status, once it and all of its workers are gone.
  asio::awaitable<exit_status> ended() {
    const auto status = co_await primary.wait();
    // a worker that lives on would hold the other end of the pipe
    const bool all = co_await eventually([this] { return end; });
    CHECK_MESSAGE(all, "somebody has outlived the primary");
    co_return status;
  }

  std::string all_text() const {
    std::string result;
    for (const auto& each : events) result += each.text + '\n';
    return result;
  }

  child primary;
  std::vector<event> events;
  bool end = false;

 private:
  static asio::awaitable<void> read(std::shared_ptr<server> self) {
    while (auto line = co_await self->primary.out().read_line()) {
      std::istringstream words(*line);
      int what = 0;
      event next{};
      words >> what >> next.slot >> next.pid;
      next.what = static_cast<kind>(what);
      std::getline(words >> std::ws, next.text);
      self->events.push_back(next);
    }
    self->end = true;
  }
};

/// Adopts processes whose parent dies, and so can wait for them.
struct subreaper {
  subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }
  ~subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); }
};

/// Waits for a process that this one has adopted.
inline asio::awaitable<int> adopted(pid_t pid) {
  int status = -1;
  const bool gone = co_await eventually([&] { return ::waitpid(pid, &status, WNOHANG) == pid; });
  CHECK_MESSAGE(gone, "a primary lives on");
  co_return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace cohort::test
