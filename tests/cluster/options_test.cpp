// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/cluster/options.hpp"

#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include <signal.h>

#include "../../include/cohort/ipc/channel_pair.hpp"
#include "../../include/cohort/worker/connection_handler.hpp"
#include "../../include/cohort/worker/parent_channel.hpp"
#include "../../include/cohort/worker/worker.hpp"
#include "../support/harness.hpp"

namespace cohort::test::options_test {
namespace {

asio::awaitable<void> no_connections(asio::ip::tcp::socket, worker&) { co_return; }

PLAIN_TEST("options have defaults that a server can start with") {
  const cluster_options options;
  CHECK(options.listen.empty());
  CHECK(options.worker_count() >= 1);
  if (std::thread::hardware_concurrency() != 0) CHECK(options.worker_count() == std::thread::hardware_concurrency());
  CHECK(options.distribution == distribution::round_robin);
  CHECK(options.backlog == 4096);
  CHECK_FALSE(options.defer_accept);
  CHECK(options.worker.drain_timeout == 30s);
  CHECK(options.worker.idle_grace == 100ms);
  CHECK(options.start_timeout == 60s);
  CHECK(options.restart.max_restarts == 10);
  CHECK(options.restart.window == 60s);
  CHECK_FALSE(options.program);
  CHECK_FALSE(options.on_event);
}

PLAIN_TEST("an address may have a distribution of its own") {
  cluster_options options;
  options.listen = {"127.0.0.1:1", std::string("[::1]:2")};
  options.listen.push_back({"unix:/run/a.sock", distribution::shared});
  REQUIRE(options.listen.size() == 3);
  CHECK(options.listen[0] == listen_address("127.0.0.1:1"));
  CHECK(options.listen[1].text == "[::1]:2");
  CHECK_FALSE(options.listen[1].distribution);
  CHECK(options.listen[2].text == "unix:/run/a.sock");
  CHECK(options.listen[2].distribution == distribution::shared);
  CHECK(options.listen[2] != listen_address("unix:/run/a.sock"));
}

PLAIN_TEST("no workers at all are one for each processor") {
  cluster_options options;
  options.workers = 5;
  CHECK(options.worker_count() == 5);
  options.workers = 0;
  CHECK(options.worker_count() >= 1);
}

PLAIN_TEST("a signal can be given another meaning, or none") {
  cluster_options options;
  CHECK(options.signals.at(SIGTERM) == cluster_action::stop);
  options.signals[SIGTERM] = cluster_action::kill;
  options.signals[SIGHUP] = cluster_action::none;
  CHECK(options.signals.at(SIGTERM) == cluster_action::kill);
  CHECK(options.signals.at(SIGHUP) == cluster_action::none);
}

ASYNC_TEST("workers have the jobs of the schedules beside their own, which stay") {
  std::string done;
  const auto job_of_schedule = [&] { done = "the schedule's"; };
  cluster_options options;
  options.schedules.push_back({schedule("both").at_start(), job_of_schedule});
  options.schedules.push_back({schedule("one").at_start(), job_of_schedule});
  options.worker.jobs["both"] = [&] { done = "the worker's"; };
  options.worker.title = "shop";
  const auto all = options.worker_with_jobs();
  CHECK(all.title == "shop");
  CHECK(all.jobs.size() == 2);
  CHECK(options.worker.jobs.size() == 1);
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  worker self(executor, parent_channel(executor, std::move(ends.second)), &no_connections, worker_options());
  co_await all.jobs.at("both")(self);
  CHECK(done == "the worker's");
  co_await all.jobs.at("one")(self);
  CHECK(done == "the schedule's");
}

PLAIN_TEST("times without end are cut to what a timer can count") {
  constexpr auto endless = std::chrono::milliseconds::max();
  cluster_options options;
  options.worker.drain_timeout = endless;
  options.start_timeout = endless;
  options.hang_timeout = endless;
  options.agents.emplace_back("cache").drain_timeout = endless;
  const auto cut = detail::normalized(options);
  for (const auto each : {cut.worker.drain_timeout, cut.start_timeout, cut.hang_timeout, cut.agents[0].drain_timeout}) {
    CHECK(std::chrono::nanoseconds(each) > 1h);
  }
  CHECK(cut.ping_interval == 1s);
}

PLAIN_TEST("workers are pinged at least four times within the hang timeout") {
  cluster_options options;
  options.hang_timeout = 2s;
  CHECK(detail::normalized(options).ping_interval == 500ms);
  options.hang_timeout = 1ms;
  CHECK(detail::normalized(options).ping_interval == 1ms);
  options.hang_timeout = 2s;
  options.ping_interval = 0ms;
  CHECK(detail::normalized(options).ping_interval == 1ms);
  options.ping_interval = 10s;
  options.hang_timeout = 0s;
  CHECK(detail::normalized(options).ping_interval == 10s);
}

}  // namespace
}  // namespace cohort::test::options_test
