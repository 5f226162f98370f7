// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/cluster/exit_reason.hpp"

#include <signal.h>

#include "../support/harness.hpp"

namespace cohort::test::exit_reason_test {
namespace {

worker_ending ready(exit_status status) {
  worker_ending how;
  how.status = status;
  how.was_ready = true;
  return how;
}

PLAIN_TEST("a worker's end is classified by its status and by what was known of it") {
  CHECK(classify(ready(exit_status::exited(0))) == exit_reason::asked);
  CHECK(classify(ready(exit_status::exited(1))) == exit_reason::fatal);
  CHECK(classify(ready(exit_status::exited(110))) == exit_reason::fatal);
  CHECK(classify(ready(exit_status::exited(78))) == exit_reason::do_not_restart);
  CHECK(classify(ready(exit_status::killed(SIGSEGV))) == exit_reason::crash);
  CHECK(classify(ready(exit_status::killed(SIGKILL))) == exit_reason::crash);
}

PLAIN_TEST("what ends before it is ready has failed to boot, however it ended, unless it was told to go") {
  for (const auto status : {exit_status::exited(0), exit_status::exited(1), exit_status::killed(SIGSEGV)}) {
    worker_ending how;
    how.status = status;
    CHECK(classify(how) == exit_reason::boot_failure);
  }
  worker_ending asked;
  asked.status = exit_status::exited(0);
  asked.asked = true;
  CHECK(classify(asked) == exit_reason::asked);
  worker_ending unwilling;
  unwilling.status = exit_status::exited(78);
  CHECK(classify(unwilling) == exit_reason::do_not_restart);
}

PLAIN_TEST("a kill is the kernel's for want of memory only if it is not the cluster's") {
  auto how = ready(exit_status::killed(SIGKILL));
  how.out_of_memory = true;
  CHECK(classify(how) == exit_reason::out_of_memory);
  how.killed = true;
  CHECK(classify(how) == exit_reason::crash);
  how.asked = true;
  CHECK(classify(how) == exit_reason::asked);
  auto other = ready(exit_status::killed(SIGSEGV));
  other.out_of_memory = true;
  CHECK(classify(other) == exit_reason::crash);
}

PLAIN_TEST("one that did not answer has hung, by whatever it was ended") {
  for (const int signal : {SIGABRT, SIGKILL}) {
    auto how = ready(exit_status::killed(signal));
    how.hung = how.killed = true;
    CHECK(classify(how) == exit_reason::hang);
  }
}

PLAIN_TEST("the kernel's count of those it has killed can be read") {
  const auto count = detail::count_oom_kills();
  CHECK(detail::count_oom_kills() >= count);
}

}  // namespace
}  // namespace cohort::test::exit_reason_test
