// SPDX-License-Identifier: BSL-1.0
// Programs as a service manager or a container starts them: with inherited sockets, told to report, as process
// number 1.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../../include/cohort/cluster/serve.hpp"
#include "../../include/cohort/worker/run_worker.hpp"
#include "../../include/cohort/ipc/peer.hpp"
#include "../../include/cohort/net/inherited_sockets.hpp"
#include "line_server.hpp"
#include "verb.hpp"

namespace cohort::test::service_verbs {
namespace {

std::string value_of(const std::string& argument) { return argument.substr(argument.find('=') + 1); }

// Sets the variables among the arguments; `pid=own` stands for LISTEN_PID with the number of this process.
void set_variables(const verb::arguments& arguments) {
  for (const auto& each : arguments) {
    if (each.starts_with("LISTEN_")) ::setenv(each.substr(0, each.find('=')).c_str(), value_of(each).c_str(), 1);
    if (each == "pid=own") ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
  }
}

const verb inherited_verb("inherited", [](const verb::arguments& arguments) {
  set_variables(arguments);
  try {
    auto sockets = inherited_sockets::from_environment();
    for (const auto& each : sockets.all()) {
      std::printf("%d %s: %s%s\n", each.number, each.name.c_str(), std::string(to_string(each.kind)).c_str(),
                  ::fcntl(each.socket.get(), F_GETFD) == FD_CLOEXEC ? ", close-on-exec" : "");
    }
    auto named = sockets.take("http");
    std::printf("named http: %zu, then %zu\n", named.size(), sockets.take("http").size());
    auto numbered = sockets.take(4);
    std::printf("with number 4: %zu, then %zu\n", numbered.size(), sockets.take(4).size());
    std::printf("left: %zu\n", sockets.all().size());
    std::printf("again: %zu\n", inherited_sockets::from_environment().all().size());
  } catch (const std::system_error& error) {
    std::printf("%s\n", error.what());
  }
  const bool none = std::getenv("LISTEN_FDS") == nullptr && std::getenv("LISTEN_PID") == nullptr &&
                    std::getenv("LISTEN_FDNAMES") == nullptr;
  std::printf("variables: %s\n", none ? "none" : "some");
  return 0;
});

const verb worker_any("worker-any", [](const verb::arguments&) {
  worker_options options;
  options.idle_grace = std::chrono::milliseconds(20);
  return run_worker(&serve_any_lines, options);
});

// Takes no connections but local ones.
asio::awaitable<void> serve_local(asio::local::stream_protocol::socket socket, worker& self) {
  return serve_lines_on(std::move(socket), self);
}

const verb worker_local("worker-local", [](const verb::arguments&) { return run_worker(&serve_local); });

// A clustered server of any connections, whose events go to stderr: `listen=ADDRESS`, `workers=N`,
// `distribution=NAME`, `mode=PERMISSIONS`, `reap=0|1`, `handler=any|tcp|local`, `subreaper`, `LISTEN_…=VALUE`,
// `pid=own`, `print=VARIABLE` (a worker, to stdout, at its start)
const verb service_verb("service", [](const verb::arguments& arguments) {
  cluster_options options;
  worker_options worker;
  worker.idle_grace = std::chrono::milliseconds(20);
  connection_handler handler = &serve_any_lines;
  if (!has_parent()) set_variables(arguments);
  for (const auto& each : arguments) {
    const std::string key = each.substr(0, each.find('=')), text = value_of(each);
    if (key == "listen") options.listen.push_back(text);
    if (key == "workers") options.workers = static_cast<unsigned>(std::stoul(text));
    if (key == "distribution") options.distribution = parse_distribution(text);
    if (key == "mode") options.socket_mode = static_cast<mode_t>(std::stoul(text, nullptr, 8));
    if (key == "reap") options.reap_orphans = text == "1";
    if (key == "subreaper") ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    if (key == "handler" && text == "tcp") handler = &serve_lines;
    if (key == "handler" && text == "local") handler = &serve_local;
    if (key == "print" && has_parent()) {
      const char* value = std::getenv(text.c_str());
      std::printf("%s is %s\n", text.c_str(), value != nullptr ? value : "not set");
      std::fflush(stdout);
    }
  }
  options.worker = worker;
  return serve(options, handler);
});

}  // namespace
}  // namespace cohort::test::service_verbs
