// SPDX-License-Identifier: BSL-1.0
// A whole clustered server, primary and workers, for tests of cohort::serve().
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include <signal.h>
#include <sys/resource.h>

#include "../../include/cohort/cluster/serve.hpp"
#include "../../include/cohort/core/error_log.hpp"
#include "../../include/cohort/ipc/peer.hpp"
#include "line_server.hpp"
#include "verb.hpp"

namespace cohort::test::cluster_verbs {
namespace {

// What the primary does with events: one line each, which a test can read and people, too.
void print(const cluster_event& event) {
  std::printf("%d %u %d %s\n", static_cast<int>(event.what), event.slot, static_cast<int>(event.pid),
              to_string(event).c_str());
  std::fflush(stdout);
}

// `listen=ADDRESS:PORT`, `workers=N`, `distribution=NAME`, `drain=MS`, `lame-duck=MS`, `grace=MS`, `start=MS`,
// `restarts=N`, `backoff=MS`, `boots=N`, `events=print|default|throw`, `die=STATUS` (the worker, at its start),
// `descriptors=N`, `ignore=SIGNAL`, `control=PATH`, `pid-file=PATH`, `health=ADDRESS:PORT`, `log=1` (events to stderr
// too), `reopen=throw`, `stop-on=SIGNAL`, `user=NAME` (of the workers), `broken-by=FILE`, `hold-by=FILE`: while there
// is such a file workers end, or wait, at their start
const verb serve_verb("serve", [](const verb::arguments& arguments) {
  cluster_options options;
  worker_options worker;
  restart_policy restart;
  worker.idle_grace = std::chrono::milliseconds(20);
  std::string events = "print";
  bool logs = false;
  for (const auto& each : arguments) {
    const auto equals = each.find('=');
    if (equals == std::string::npos) continue;
    const std::string key = each.substr(0, equals), text = each.substr(equals + 1);
    const long value = std::atol(text.c_str());
    if (key == "listen") options.listen.push_back(text);
    if (key == "workers") options.workers = static_cast<unsigned>(value);
    if (key == "distribution") options.distribution = parse_distribution(text);
    if (key == "drain") worker.drain_timeout = std::chrono::milliseconds(value);
    if (key == "lame-duck") options.lame_duck = std::chrono::milliseconds(value);
    if (key == "grace") worker.idle_grace = std::chrono::milliseconds(value);
    if (key == "start") options.start_timeout = std::chrono::milliseconds(value);
    if (key == "restarts") restart.max_restarts = static_cast<std::size_t>(value);
    if (key == "backoff") restart.min_backoff = std::chrono::milliseconds(value);
    if (key == "boots") restart.max_failed_boots = static_cast<std::size_t>(value);
    if (key == "events") events = text;
    if (key == "control") options.control_socket = text;
    if (key == "health") options.health_address = text;
    if (key == "pid-file") options.pid_file = text;
    if (key == "log") logs = true;
    if (key == "reopen") options.on_reopen = [] { throw std::runtime_error("no such directory"); };
    if (key == "stop-on") options.signals[static_cast<int>(value)] = cluster_action::stop;
    if (key == "user") options.user = text;
    if (key == "broken-by" && std::getenv("COHORT_SLOT") != nullptr && ::access(text.c_str(), F_OK) == 0) return 9;
    if (key == "hold-by" && std::getenv("COHORT_SLOT") != nullptr) {
      while (::access(text.c_str(), F_OK) == 0) ::usleep(1'000);
    }
    if (key == "die" && has_parent()) return static_cast<int>(value);
    if (key == "ignore") ::signal(static_cast<int>(value), SIG_IGN);
    if (key == "descriptors") {
      const rlimit limit{static_cast<rlim_t>(value), static_cast<rlim_t>(value)};
      ::setrlimit(RLIMIT_NOFILE, &limit);
    }
  }
  options.worker = worker;
  options.restart = restart;
  if (events == "print") options.on_event = &print;
  if (logs) {
    options.on_event = [](const cluster_event& event) {
      print(event);
      error_log::write(to_string(event));
    };
  }
  if (events == "throw") {
    options.on_event = [](const cluster_event& event) {
      print(event);
      if (event.what == cluster_event::kind::draining) throw std::runtime_error("no more events, please");
    };
  }
  return serve(options, &serve_any_lines);
});

}  // namespace
}  // namespace cohort::test::cluster_verbs
