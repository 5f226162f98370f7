// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/process/exit_status.hpp"

#include <chrono>

#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>

#include "children.hpp"

namespace cohort::test::exit_status_test {
namespace {

exit_status status_of(int code, int value) {
  siginfo_t info = {};
  info.si_code = code;
  info.si_status = value;
  return exit_status(info, rusage{});
}

PLAIN_TEST("a default exit status has neither succeeded nor failed in some way") {
  const exit_status none;
  CHECK_FALSE(none.success());
  CHECK_FALSE(none.code().has_value());
  CHECK_FALSE(none.signal().has_value());
  CHECK(none == exit_status());
  CHECK(none != exit_status::exited(0));
  CHECK(fmt::format("{}", none) == "not ended");
}

PLAIN_TEST("an exit status is a code or a signal") {
  const auto exited = status_of(CLD_EXITED, 3);
  CHECK(exited.code() == 3);
  CHECK_FALSE(exited.signal().has_value());
  CHECK_FALSE(exited.success());
  CHECK(status_of(CLD_EXITED, 0).success());

  const auto killed = status_of(CLD_KILLED, SIGKILL);
  CHECK(killed.signal() == SIGKILL);
  CHECK_FALSE(killed.code().has_value());
  CHECK_FALSE(killed.success());
  CHECK_FALSE(killed.core_dumped());
  CHECK(status_of(CLD_DUMPED, SIGSEGV).core_dumped());
}

PLAIN_TEST("exit statuses are equal when they ended in the same way") {
  CHECK(status_of(CLD_EXITED, 3) == exit_status::exited(3));
  CHECK(status_of(CLD_KILLED, 9) == exit_status::killed(9));
  CHECK(exit_status::exited(9) != exit_status::killed(9));
  CHECK(exit_status::exited(1) != exit_status::exited(2));
  CHECK(status_of(CLD_KILLED, SIGSEGV) != status_of(CLD_DUMPED, SIGSEGV));
}

PLAIN_TEST("an exit status reads as a sentence") {
  CHECK(fmt::format("{}", exit_status::exited(3)) == "exited with 3");
  CHECK(fmt::format("{}", exit_status::killed(SIGKILL)) == "killed by SIGKILL (9)");
  CHECK(fmt::format("{}", status_of(CLD_DUMPED, SIGSEGV)) == "killed by SIGSEGV (11), core dumped");
  CHECK(fmt::format("{}", exit_status::killed(40)) == "killed by signal 40");
  CHECK(fmt::format("{:>15}|", exit_status::exited(0)) == "  exited with 0|");
}

PLAIN_TEST("usage comes in microseconds and bytes") {
  rusage used = {};
  used.ru_utime = {1, 500'000};
  used.ru_stime = {0, 20};
  used.ru_maxrss = 3;
  siginfo_t info = {};
  info.si_code = CLD_EXITED;
  const exit_status status(info, used);
  CHECK(status.usage().user_time == std::chrono::microseconds(1'500'000));
  CHECK(status.usage().system_time == std::chrono::microseconds(20));
  CHECK(status.usage().max_rss == 3 * 1024);
  CHECK(status.usage().wall_time == 0us);
  CHECK(exit_status(info, used, 7us).usage().wall_time == 7us);
}

ASYNC_TEST("a child's status tells its code, its signal and what it has used") {
  auto three = co_await spawn(helper("exit-code", "3"));
  const auto exited = co_await three.wait();
  CHECK(exited == exit_status::exited(3));
  CHECK(exited.usage().max_rss > 64 * 1024);

  auto terminated = co_await spawn(helper("raise", std::to_string(SIGTERM)));
  const auto killed = co_await terminated.wait();
  CHECK(killed == exit_status::killed(SIGTERM));

  auto burning = co_await spawn(helper("burn", "30"));
  const auto burnt = co_await burning.wait();
  CHECK(burnt.usage().user_time + burnt.usage().system_time >= 25ms);

  const auto before = std::chrono::steady_clock::now();
  auto sleeping = co_await spawn(helper("sleep", "30"));
  const auto slept = co_await sleeping.wait();
  CHECK(slept.usage().wall_time >= 30ms);
  CHECK(slept.usage().wall_time <= std::chrono::steady_clock::now() - before);
  CHECK(slept.usage().user_time + slept.usage().system_time < slept.usage().wall_time);
}

}  // namespace
}  // namespace cohort::test::exit_status_test
