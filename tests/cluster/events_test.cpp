// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/cluster/events.hpp"

#include <csignal>
#include <string>

#include "../support/harness.hpp"

namespace cohort::test::events_test {
namespace {

using kind = cluster_event::kind;

PLAIN_TEST("each event is a line for people") {
  CHECK(to_string(cluster_event(kind::listening, 0, 0, "127.0.0.1:80")) == "listening on 127.0.0.1:80");
  CHECK(to_string(cluster_event(kind::started, 2, 4711)) == "worker 2 started, pid 4711");
  cluster_event ready(kind::ready, 2, 4711);
  ready.after = std::chrono::microseconds(2345);
  CHECK(to_string(ready) == "worker 2 ready, pid 4711 (2.3 ms)");
  CHECK(to_string(cluster_event(kind::draining, 2, 4711, "SIGTERM")) == "worker 2 draining, pid 4711: SIGTERM");
  cluster_event exited(kind::exited, 2, 4711);
  exited.status = exit_status::exited(110);
  CHECK(to_string(exited) == "worker 2 exited, pid 4711: status 110");
  exited.status = exit_status::killed(SIGKILL);
  CHECK(to_string(exited) == "worker 2 exited, pid 4711: killed by SIGKILL (9)");
  CHECK(to_string(cluster_event(kind::failed, 2, 0, "spawn: …")) == "worker 2 failed: spawn: …");
  CHECK(to_string(cluster_event(kind::failed, 2, 4711, "not ready")) == "worker 2 failed, pid 4711: not ready");
  cluster_event restarting(kind::restarting, 2);
  restarting.after = std::chrono::milliseconds(1500);
  CHECK(to_string(restarting) == "worker 2 restarts in 1.5 s: too many restarts");
  CHECK(to_string(cluster_event(kind::not_restarted, 2)) == "worker 2 will not be restarted");
  CHECK(to_string(cluster_event(kind::gave_up, 0, 0, "too many restarts")) == "gave up: too many restarts");
  CHECK(to_string(cluster_event(kind::failed, 0, 0, "on_reopen: …")) == "primary failed: on_reopen: …");
  cluster_event reloaded(kind::reloaded);
  reloaded.after = std::chrono::microseconds(12345);
  CHECK(to_string(reloaded) == "reloaded (12.3 ms)");
  reloaded.text = "/srv/releases/7/server";
  CHECK(to_string(reloaded) == "reloaded /srv/releases/7/server (12.3 ms)");
  CHECK(to_string(cluster_event(kind::stopping, 0, 0, "SIGTERM")) == "stopping: SIGTERM");
}

}  // namespace
}  // namespace cohort::test::events_test
