// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/worker/detail/job_runner.hpp"

#include <cstddef>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "../../include/cohort/core/event.hpp"
#include "../../include/cohort/ipc/channel_pair.hpp"
#include "../../include/cohort/worker/connection_handler.hpp"
#include "../../include/cohort/worker/options.hpp"
#include "../../include/cohort/worker/parent_channel.hpp"
#include "../../include/cohort/worker/worker.hpp"
#include "../support/harness.hpp"

namespace cohort::test::job_runner_test {
namespace {

using detail::job_runner;

asio::awaitable<void> no_connections(asio::ip::tcp::socket, worker&) { co_return; }

/// A worker that does not run, and a runner of its jobs.
class scene {
 public:
  explicit scene(const asio::any_io_executor& executor) : scene(executor, make_channel_pair()) {}

  /// Begins with a job in a coroutine of its own.
  void start(std::string name) {
    asio::co_spawn(gate.get_executor(), runner.run(std::move(name)),
                   [this](std::exception_ptr thrown, worker_protocol::job_result became) {
                     if (!thrown) result = std::move(became);
                   });
  }

  event gate;  // for which the job `waits` waits
  std::size_t begun = 0, ends = 0;
  std::optional<worker_protocol::job_result> result;

 private:
  descriptor parent_;
  worker self_;
  job_runner::job_map jobs_ = jobs();

 public:
  job_runner runner;

 private:
  scene(const asio::any_io_executor& executor, std::pair<descriptor, descriptor> channel)
      : gate(executor),
        parent_(std::move(channel.first)),
        self_(executor, parent_channel(executor, std::move(channel.second)), &no_connections, worker_options()),
        runner(self_, jobs_, [this] { ++ends; }) {}

  job_runner::job_map jobs() {
    job_runner::job_map all;
    all["waits"] = [this](worker& who) { return wait(who); };
    all["throws"] = [](worker&) -> asio::awaitable<void> { throw std::runtime_error("no space"); };
    all["throws a number"] = [](worker&) -> asio::awaitable<void> { throw 42; };
    all["is nothing"] = nullptr;
    return all;
  }

  asio::awaitable<void> wait(worker& who) {
    CHECK(&who == &self_);
    ++begun;
    co_await gate.wait();
  }
};

ASYNC_TEST("a job runs in its worker, is counted until its end, and its end is told") {
  scene s(co_await asio::this_coro::executor);
  s.start("waits");
  s.start("waits");
  co_await yield(5);
  CHECK(s.begun == 2);
  CHECK(s.runner.running() == 2);
  CHECK(s.ends == 0);
  s.gate.set();
  const bool ended = co_await eventually([&] { return s.ends == 2; });
  CHECK(ended);
  CHECK(s.runner.running() == 0);
  co_await yield(5);
  REQUIRE(s.result);
  CHECK_FALSE(s.result->refused);
  CHECK_FALSE(s.result->what);
}

ASYNC_TEST("what a job throws is its result, and counts as its end") {
  scene s(co_await asio::this_coro::executor);
  auto became = co_await s.runner.run("throws");
  CHECK_FALSE(became.refused);
  CHECK(became.what == "no space");
  became = co_await s.runner.run("throws a number");
  CHECK(became.what == "an exception that is no std::exception");
  CHECK(s.runner.running() == 0);
  CHECK(s.ends == 2);
}

ASYNC_TEST("a schedule without a job is an error that names it, and no run") {
  scene s(co_await asio::this_coro::executor);
  for (const std::string name : {"unknown", "is nothing"}) {
    const auto text = co_await text_of(s.runner.run(name));
    CHECK(text == "schedule \"" + name + "\": no such job in worker_options::jobs: invalid option");
  }
  CHECK(s.ends == 0);
}

ASYNC_TEST("a runner that declines begins with nothing, and what is under way goes on") {
  scene s(co_await asio::this_coro::executor);
  s.start("waits");
  co_await yield(5);
  s.runner.decline();
  auto became = co_await s.runner.run("waits");
  CHECK(became.refused);
  became = co_await s.runner.run("unknown");
  CHECK(became.refused);
  CHECK(s.begun == 1);
  CHECK(s.runner.running() == 1);
  s.gate.set();
  const bool ended = co_await eventually([&] { return s.result.has_value(); });
  CHECK(ended);
  CHECK_FALSE(s.result->refused);
  CHECK(s.ends == 1);
}

}  // namespace
}  // namespace cohort::test::job_runner_test
