// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/process/stop_policy.hpp"

#include <string>
#include <system_error>

#include <signal.h>

#include "../support/harness.hpp"

namespace cohort::test::stop_policy_test {
namespace {

PLAIN_TEST("a stop policy asks once and waits ten seconds, if nothing else is said") {
  const stop_policy policy;
  REQUIRE(policy.steps().size() == 1);
  CHECK(policy.steps()[0].signal == SIGTERM);
  CHECK(policy.steps()[0].grace == 10s);
  CHECK(stop_policy::kill().steps().empty());
}

PLAIN_TEST("a stop policy takes three steps and no fourth") {
  auto policy = stop_policy(SIGINT, 1s).then(SIGTERM, 2s).then(SIGQUIT, stop_policy::forever);
  REQUIRE(policy.steps().size() == 3);
  CHECK(policy.steps()[0].signal == SIGINT);
  CHECK(policy.steps()[1].grace == 2s);
  CHECK(policy.steps()[2].grace == stop_policy::forever);
  std::string text;
  try {
    policy.then(SIGHUP, 1s);
  } catch (const std::system_error& error) {
    CHECK(error.code() == errc::invalid_option);
    text = error.what();
  }
  CHECK(text == "stop_policy: a step after 3: invalid option");
  CHECK(policy.steps().size() == 3);
}

}  // namespace
}  // namespace cohort::test::stop_policy_test
