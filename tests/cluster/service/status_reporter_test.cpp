// SPDX-License-Identifier: BSL-1.0
#include "../../../include/cohort/cluster/service/status_reporter.hpp"

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "../../../include/cohort/core/task_group.hpp"
#include "../../support/fault.hpp"
#include "manager.hpp"

namespace cohort::test::status_reporter_test {
namespace {

using kind = cluster_event::kind;

/// A report with a manager that listens.
struct scene {
  explicit scene(const asio::any_io_executor& executor, std::size_t workers = 2, const char* watchdog = nullptr)
      : tasks(executor), report(executor, take(watchdog), workers) {}

  sd_notifier take(const char* watchdog) {
    const variable notify("NOTIFY_SOCKET", socket.name());
    if (watchdog != nullptr) ::setenv("WATCHDOG_USEC", watchdog, 1);
    return sd_notifier();
  }

  /// What one event makes the manager hear.
  std::vector<std::string> heard(const cluster_event& event) {
    report.note(event);
    std::vector<std::string> result;
    for (auto text = socket.next(); text != "(nothing)"; text = socket.next()) result.push_back(text);
    return result;
  }

  void start(asio::awaitable<void> work) {
    tasks.start(std::move(work), [this](std::exception_ptr thrown) { ended += thrown ? 1 : 0; });
  }

  notify_socket socket;
  task_group tasks;
  status_reporter report;
  int ended = 0;
};

using texts = std::vector<std::string>;

ASYNC_TEST("a cluster is ready when all of its workers have been, once") {
  scene at(co_await asio::this_coro::executor);
  CHECK(at.heard(cluster_event(kind::listening, 0, 0, "127.0.0.1:1")) == texts());
  CHECK(at.heard(cluster_event(kind::started, 1, 11)) == texts());
  CHECK(at.heard(cluster_event(kind::ready, 1, 11)) == texts{"STATUS=1 of 2 workers serve"});
  CHECK(at.heard(cluster_event(kind::ready, 2, 12)) == texts{"READY=1", "STATUS=2 of 2 workers serve"});
  CHECK(at.heard(cluster_event(kind::exited, 1, 11)) == texts{"STATUS=1 of 2 workers serve"});
  CHECK(at.heard(cluster_event(kind::started, 1, 13)) == texts());
  CHECK(at.heard(cluster_event(kind::ready, 1, 13)) == texts{"STATUS=2 of 2 workers serve"});
}

ASYNC_TEST("the manager is asked for patience while workers boot, and when the cluster stops") {
  notify_socket socket;
  const variable notify("NOTIFY_SOCKET", socket.name());
  status_reporter::patience limits;
  limits.boot = 7s;
  limits.stop = 90s;
  status_reporter report(co_await asio::this_coro::executor, sd_notifier(), 1, limits);
  report.note(cluster_event(kind::started, 1, 11));
  CHECK(socket.count("EXTEND_TIMEOUT_USEC=7000000") == 1);
  cluster_event pause(kind::restarting, 1);
  pause.after = 3s;
  report.note(pause);
  CHECK(socket.count("EXTEND_TIMEOUT_USEC=10000000") == 1);
  report.note(cluster_event(kind::ready, 1, 12));
  report.note(cluster_event(kind::started, 1, 13));
  CHECK(socket.count("EXTEND_TIMEOUT_USEC=7000000") == 1);
  report.note(cluster_event(kind::stopping, 0, 0, "SIGTERM"));
  CHECK(socket.count("EXTEND_TIMEOUT_USEC=90000000") == 1);
}

ASYNC_TEST("a worker that dies before the other is ready keeps the cluster from being ready") {
  scene at(co_await asio::this_coro::executor);
  CHECK(at.heard(cluster_event(kind::ready, 1, 11)) == texts{"STATUS=1 of 2 workers serve"});
  CHECK(at.heard(cluster_event(kind::exited, 1, 11)) == texts{"STATUS=0 of 2 workers serve"});
  CHECK(at.heard(cluster_event(kind::ready, 2, 12)) == texts{"STATUS=1 of 2 workers serve"});
  CHECK(at.heard(cluster_event(kind::ready, 1, 13)) == texts{"READY=1", "STATUS=2 of 2 workers serve"});
}

ASYNC_TEST("a draining worker does not serve, and its end is not that of its successor") {
  scene at(co_await asio::this_coro::executor, 1);
  CHECK(at.heard(cluster_event(kind::ready, 1, 11)) == texts{"READY=1", "STATUS=1 of 1 workers serve"});
  CHECK(at.heard(cluster_event(kind::draining, 1, 11, "SIGTERM")) == texts{"STATUS=0 of 1 workers serve"});
  CHECK(at.heard(cluster_event(kind::ready, 1, 12)) == texts{"STATUS=1 of 1 workers serve"});
  CHECK(at.heard(cluster_event(kind::exited, 1, 11)) == texts());
}

ASYNC_TEST("trouble is told until all serve again") {
  scene at(co_await asio::this_coro::executor);
  at.heard(cluster_event(kind::ready, 1, 11));
  at.heard(cluster_event(kind::ready, 2, 12));
  at.heard(cluster_event(kind::exited, 2, 12));
  cluster_event pause(kind::restarting, 2);
  pause.after = 3s;
  CHECK(at.heard(pause) == texts{"STATUS=1 of 2 workers serve; worker 2 restarts in 3.0 s: too many restarts"});
  CHECK(at.heard(cluster_event(kind::failed, 2, 0, "spawn: no")) ==
        texts{"STATUS=1 of 2 workers serve; worker 2 failed: spawn: no"});
  CHECK(at.heard(cluster_event(kind::ready, 2, 13)) == texts{"STATUS=2 of 2 workers serve"});
}

ASYNC_TEST("a worker that is not to be restarted is not waited for") {
  scene at(co_await asio::this_coro::executor);
  at.heard(cluster_event(kind::ready, 1, 11));
  CHECK(at.heard(cluster_event(kind::not_restarted, 2, 12)) == texts{"READY=1", "STATUS=1 of 1 workers serve"});
}

ASYNC_TEST("an agent is not one of the workers that are counted, but its trouble is told") {
  scene at(co_await asio::this_coro::executor, 1);
  cluster_event agent(kind::ready, 0, 10);
  agent.agent = "cache";
  CHECK(at.heard(agent) == texts());
  CHECK(at.heard(cluster_event(kind::ready, 1, 11)) == texts{"READY=1", "STATUS=1 of 1 workers serve"});
  agent.what = kind::exited;
  CHECK(at.heard(agent) == texts());
  CHECK(at.heard(cluster_event(kind::exited, 1, 11)) == texts{"STATUS=0 of 1 workers serve"});
  agent.what = kind::not_restarted;
  CHECK(at.heard(agent) == texts{"STATUS=0 of 1 workers serve; agent cache will not be restarted"});
}

ASYNC_TEST("a cluster that stops says so, and why, and is not ready any more") {
  scene at(co_await asio::this_coro::executor, 1);
  CHECK(at.heard(cluster_event(kind::stopping, 0, 0, "SIGTERM")) == texts{"STOPPING=1", "STATUS=stopping: SIGTERM"});
  CHECK(at.heard(cluster_event(kind::ready, 1, 11)) == texts());
  CHECK(at.heard(cluster_event(kind::exited, 1, 11)) == texts());

  scene other(co_await asio::this_coro::executor, 1);
  CHECK(other.heard(cluster_event(kind::gave_up, 0, 0, "too many restarts")) ==
        texts{"STATUS=gave up: too many restarts"});
  CHECK(other.heard(cluster_event(kind::stopping, 0, 0, "gave up")) == texts{"STOPPING=1"});
}

ASYNC_TEST("what the manager did not take is told again, in order, and nothing that is old") {
  scene at(co_await asio::this_coro::executor, 1);
  at.start(at.report.retry());
  {
    const fault<&system::calls::sendmsg> busy(EAGAIN, 1, 2);
    CHECK(at.heard(cluster_event(kind::ready, 1, 11)) == texts());
    CHECK(at.heard(cluster_event(kind::exited, 1, 11)) == texts());
    co_await at.socket.until("STATUS=0 of 1 workers serve");
    CHECK(at.socket.heard == texts{"READY=1", "STATUS=0 of 1 workers serve"});
    CHECK(busy.failed() == 2);
  }
  at.tasks.cancel();
  co_await at.tasks.wait_empty();
  CHECK(at.ended == 1);
}

ASYNC_TEST("the watchdog hears of the loop all the time, and nothing without an interval") {
  scene silent(co_await asio::this_coro::executor);
  co_await silent.report.keep_alive();
  CHECK(silent.socket.next() == "(nothing)");

  scene at(co_await asio::this_coro::executor, 2, "20000");
  at.start(at.report.keep_alive());
  const bool alive = co_await eventually([&] { return at.socket.count("WATCHDOG=1") >= 5; });
  CHECK(alive);
  {
    // one that is lost is sent again with the next
    const fault<&system::calls::sendmsg> busy(EAGAIN, 1, 3);
    const bool tried = co_await eventually([&] { return busy.failed() == 3; });
    CHECK(tried);
  }
  const auto before = at.socket.count("WATCHDOG=1");
  const bool again = co_await eventually([&] { return at.socket.count("WATCHDOG=1") > before; });
  CHECK(again);
  at.tasks.cancel();
  co_await at.tasks.wait_empty();
  CHECK(at.ended == 1);
}

ASYNC_TEST("without a manager a report does nothing") {
  status_reporter report(co_await asio::this_coro::executor, sd_notifier(), 1);
  const fault<&system::calls::sendmsg> counted(0, 1, 0);
  report.note(cluster_event(kind::ready, 1, 11));
  report.note(cluster_event(kind::stopping, 0, 0, "SIGTERM"));
  co_await report.keep_alive();
  CHECK(counted.calls() == 0);
}

}  // namespace
}  // namespace cohort::test::status_reporter_test
