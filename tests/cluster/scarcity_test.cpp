// SPDX-License-Identifier: BSL-1.0
// Memory that is refused once, in the middle of each main scene (tests/verbs/scarce.cpp): what comes of it is an error
// of an operation, of the loop or of one worker. Never a crash, a wait without an end, a child or a descriptor that is
// left. Every request of every scene, a few thousand cases, with COHORT_TEST_EVERY_REQUEST set.
#include <cstdlib>
#include <string>

#include "../../include/cohort/process/exec.hpp"
#include "../process/children.hpp"

namespace cohort::test::scarcity_test {
namespace {

asio::awaitable<void> check_scene(std::string scene, unsigned step) {
  if (std::getenv("COHORT_TEST_EVERY_REQUEST") != nullptr) step = 1;
  auto program = helper("scarce", scene, std::to_string(step));
  exec_options options;
  options.merge_errors = true;
  const auto ran = co_await exec_file(std::move(program), options);
  INFO(ran.out);
  CHECK(ran.status.success());
  CHECK(ran.out.find(" cases; ") != std::string::npos);
}

ASYNC_TEST("a child, a pipe and a channel survive that memory is refused" * doctest::skip(sanitized)) {
  for (const char* scene : {"spawn", "exec", "channel", "lease", "peer"}) co_await check_scene(scene, 5);
}

ASYNC_TEST("a cluster survives that memory is refused to its primary" * doctest::skip(sanitized)) {
  for (const char* scene : {"cluster", "shared", "reload", "messenger"}) co_await check_scene(scene, 41);
}

ASYNC_TEST("a cluster survives that memory is refused to a worker" * doctest::skip(sanitized)) { co_await check_scene("worker", 41); }

}  // namespace
}  // namespace cohort::test::scarcity_test
