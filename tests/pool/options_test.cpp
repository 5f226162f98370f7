// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/pool/options.hpp"

#include <chrono>

#include "../support/harness.hpp"

namespace cohort::test {

PLAIN_TEST("a pool has a process for each processor, no limits and no second try, unless it is told") {
  const pool_options options;
  CHECK(options.processes() >= 1);
  CHECK(options.queue() == 64);
  CHECK_FALSE(options.deadline());
  CHECK(options.retries() == 0);
  CHECK_FALSE(options.max_jobs());
  CHECK_FALSE(options.max_rss());
  CHECK(options.start_timeout() == 30s);
  CHECK_FALSE(options.program());
}

PLAIN_TEST("pool options chain, and hold what they were given") {
  pool_options options;
  channel_options small;
  small.max_message = 1000;
  options.processes(3).queue(5).deadline(2s).retries(1).max_jobs(10).max_rss(1 << 20).start_timeout(1s);
  options.program(command("worker")).channel(small);
  CHECK(options.processes() == 3);
  CHECK(options.queue() == 5);
  CHECK(options.deadline() == 2s);
  CHECK(options.retries() == 1);
  CHECK(options.max_jobs() == 10);
  CHECK(options.max_rss() == 1 << 20);
  CHECK(options.start_timeout() == 1s);
  CHECK(options.program()->program() == "worker");
  CHECK(options.channel().max_message == 1000);
  CHECK(options.processes(0).processes() >= 1);
}

PLAIN_TEST("a time without end is cut to one that a timer can count") {
  pool_options options;
  options.deadline(std::chrono::milliseconds::max()).start_timeout(std::chrono::milliseconds::max());
  CHECK(std::chrono::nanoseconds(*options.deadline()) > 1h);
  CHECK(std::chrono::nanoseconds(options.start_timeout()) > 1h);
}

}  // namespace cohort::test
