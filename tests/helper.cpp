// SPDX-License-Identifier: BSL-1.0
// The program that tests start as a child: `helper VERB ARGUMENTS…`. The verbs are in tests/verbs.
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "verbs/verb.hpp"

using cohort::test::verb;

int main(int argc, char** argv) {
  cohort::test::main_arguments = argv;
  const std::string name = argc > 1 ? argv[1] : "";
  const std::vector<std::string> arguments(argv + (argc > 1 ? 2 : 1), argv + argc);
  for (const verb* known = verb::first(); known != nullptr; known = known->next()) {
    if (name != known->name()) continue;
    try {
      return known->run(arguments);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "helper %s: %s\n", name.c_str(), error.what());
      return 70;
    }
  }
  std::fprintf(stderr, "helper: no verb \"%s\"; there are:\n", name.c_str());
  for (const verb* known = verb::first(); known != nullptr; known = known->next()) {
    std::fprintf(stderr, "  %s\n", known->name());
  }
  return 64;
}
