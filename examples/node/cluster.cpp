// SPDX-License-Identifier: BSL-1.0
// A primary for an unmodified application of Node's cluster module: node_cluster SCRIPT [ARGUMENT…]
//
//   node_cluster application.js 8000    in place of the application's own primary
//   kill -HUP PID                       replaces the workers, and no request is lost
//
// Signals, restarts and events are those of every cluster.

#include <cstdio>

#include <cohort/cluster/node/workers.hpp>
#include <cohort/cluster/serve.hpp>

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("node_cluster: want SCRIPT [ARGUMENT…]\n", stderr);
    return 2;
  }
  cohort::cluster_options options;
  options.program = cohort::command("node");
  for (int i = 1; i < argc; ++i) options.program->arg(argv[i]);
  options.workers = 2;
  options.dialect = cohort::node_workers();
  return cohort::serve(options);
}
