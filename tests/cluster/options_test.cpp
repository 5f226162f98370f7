// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/cluster/options.hpp"

#include <string>
#include <thread>
#include <vector>

#include "../support/harness.hpp"

namespace cohort::test {
namespace {

PLAIN_TEST("options have defaults that a server can start with") {
  const cluster_options options;
  CHECK(options.addresses().empty());
  CHECK(options.worker_count() >= 1);
  if (std::thread::hardware_concurrency() != 0) CHECK(options.worker_count() == std::thread::hardware_concurrency());
  CHECK(options.distribution() == distribution::round_robin);
  CHECK(options.backlog() == 4096);
  CHECK_FALSE(options.defer_accept());
  CHECK(options.worker().drain_timeout == 30s);
  CHECK(options.worker().idle_grace == 100ms);
  CHECK(options.start_timeout() == 60s);
  CHECK(options.restart().max_restarts == 10);
  CHECK(options.restart().window == 60s);
  CHECK_FALSE(options.command());
  CHECK_FALSE(options.on_event());
}

PLAIN_TEST("options chain, and addresses add up") {
  worker_options worker;
  worker.drain_timeout = 7s;
  restart_policy policy;
  policy.max_restarts = 3;
  unsigned events = 0;
  cluster_options options;
  options.listen("127.0.0.1:1").listen(std::string("[::1]:2")).workers(5).distribute(distribution::shared).backlog(9);
  options.defer_accept(true).worker(worker).restart(policy).start_timeout(8s).command(command("program"));
  options.on_event([&](const cluster_event&) { ++events; });
  CHECK(options.addresses() == std::vector<listen_address>{{"127.0.0.1:1", {}}, {"[::1]:2", {}}});
  CHECK(options.worker_count() == 5);
  CHECK(options.distribution() == distribution::shared);
  CHECK(options.backlog() == 9);
  CHECK(options.defer_accept());
  CHECK(options.worker().drain_timeout == 7s);
  CHECK(options.restart().max_restarts == 3);
  CHECK(options.start_timeout() == 8s);
  CHECK(options.command()->program() == "program");
  options.on_event()(cluster_event(cluster_event::kind::ready));
  CHECK(events == 1);
}

PLAIN_TEST("no workers at all are one for each processor") {
  cluster_options options;
  options.workers(0);
  CHECK(options.worker_count() >= 1);
}

}  // namespace
}  // namespace cohort::test
