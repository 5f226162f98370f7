// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/pool/options.hpp"

#include <chrono>

#include "../support/harness.hpp"

namespace cohort::test::options_test {

PLAIN_TEST("a pool has a process for each processor, no limits and no second try, unless it is told") {
  const pool_options options;
  CHECK(options.process_count() >= 1);
  CHECK(options.queue == 64);
  CHECK_FALSE(options.deadline);
  CHECK(options.retries == 0);
  CHECK_FALSE(options.max_jobs);
  CHECK_FALSE(options.max_rss);
  CHECK(options.start_timeout == 30s);
  CHECK_FALSE(options.program);
}

PLAIN_TEST("a pool has as many processes as it is told, or one for each processor") {
  pool_options options;
  options.processes = 3;
  CHECK(options.process_count() == 3);
  options.processes = 0;
  CHECK(options.process_count() >= 1);
}

PLAIN_TEST("a time without end is cut to one that a timer can count") {
  pool_options options;
  options.deadline = std::chrono::milliseconds::max();
  options.start_timeout = std::chrono::milliseconds::max();
  const auto cut = detail::normalized(options);
  CHECK(std::chrono::nanoseconds(*cut.deadline) > 1h);
  CHECK(std::chrono::nanoseconds(cut.start_timeout) > 1h);
  options.deadline = std::chrono::milliseconds::min();
  options.start_timeout = std::chrono::milliseconds::min();
  const auto raised = detail::normalized(options);
  CHECK(raised.deadline == 0ms);
  CHECK(raised.start_timeout == 0ms);
}

}  // namespace cohort::test::options_test
