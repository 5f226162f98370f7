// SPDX-License-Identifier: BSL-1.0
// A primary for a program of Node's cluster module, to be driven by tests. Environment, which is passed on:
//
//   ACCEPT_NODE     the program that runs scripts; default: node
//   ACCEPT_WORKER   the script
//   ACCEPT_WORKERS  how many workers
//   ACCEPT_POLICY   rr: the primary accepts and hands out in turn; none: all workers have the same socket
//   ACCEPT_CONTROL  the path of a control socket, if there is to be one

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "../../include/cohort/cluster/node/workers.hpp"
#include "../../include/cohort/cluster/serve.hpp"

namespace {

std::string variable(const char* name, const char* otherwise) {
  const char* const value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

}  // namespace

int main() {
  const std::string count = variable("ACCEPT_WORKERS", "1");
  const std::string policy = variable("ACCEPT_POLICY", "rr");
  cohort::cluster_options options;
  const char* const end = count.data() + count.size();
  const auto parsed = std::from_chars(count.data(), end, options.workers);
  if (parsed.ec != std::errc() || parsed.ptr != end || options.workers == 0 || (policy != "rr" && policy != "none") ||
      std::getenv("ACCEPT_WORKER") == nullptr) {
    std::fputs("node_primary: want ACCEPT_WORKER, ACCEPT_WORKERS and ACCEPT_POLICY=rr|none\n", stderr);
    return 2;
  }
  options.distribution = policy == "rr" ? cohort::distribution::round_robin : cohort::distribution::shared;
  options.program = cohort::command(variable("ACCEPT_NODE", "node"), variable("ACCEPT_WORKER", ""));
  options.control_socket = variable("ACCEPT_CONTROL", "");
  options.dialect = cohort::node_workers();
  return cohort::serve(options);
}
