// SPDX-License-Identifier: BSL-1.0
// What a child starts with beside its program, its environment and its descriptors: session, signals, priorities,
// limits. Each row is seen from inside a child, and each step is made to fail.
#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../../include/cohort/process/command.hpp"
#include "../support/fault.hpp"
#include "children.hpp"

namespace cohort::test::attributes_test {
namespace {

std::vector<int> own_processors() {
  cpu_set_t set;
  REQUIRE(::sched_getaffinity(0, sizeof set, &set) == 0);
  std::vector<int> processors;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &set)) processors.push_back(i);
  }
  return processors;
}

rlimit own_limit(decltype(RLIMIT_CPU) resource) {
  rlimit limit;
  REQUIRE(::getrlimit(resource, &limit) == 0);
  return limit;
}

ASYNC_TEST("a child of a new session has a session and a process group of its own") {
  auto started = co_await spawn(helper("session").new_session().out(stdio::pipe));
  const auto session = co_await started.out().read_all();
  CHECK(session == fmt::format("{}\n", started.pid()));
  co_await started.wait();
  auto grouped = co_await spawn(helper("group").new_session().out(stdio::pipe));
  const auto group = co_await grouped.out().read_all();
  CHECK(group == fmt::format("{}\n", grouped.pid()));
  co_await grouped.wait();
  const auto parents = co_await output_of(helper("session"));
  CHECK(parents == fmt::format("{}\n", ::getsid(0)));
}

ASYNC_TEST("a child of a new session outlives its parent unless it is told otherwise") {
  const auto off = co_await output_of(helper("death-signal").new_session());
  CHECK(off == "0\n");
  const auto on = co_await output_of(helper("death-signal").die_with_parent(true).new_session());
  CHECK(on == fmt::format("{}\n", SIGKILL));
}

ASYNC_TEST("a child can join the process group of another") {
  auto first = co_await spawn(helper("cat").in(stdio::pipe).out(stdio::pipe));
  const auto joined = co_await output_of(helper("group").process_group(first.pid()));
  CHECK(joined == fmt::format("{}\n", first.pid()));

  // also when the leader has ended, as long as it is not reaped: a pipeline whose first program is a short one
  first.in().close();
  const auto rest = co_await first.out().read_all();
  CHECK(rest.empty());
  const auto late = co_await output_of(helper("group").process_group(first.pid()));
  CHECK(late == fmt::format("{}\n", first.pid()));
  co_await first.wait();
}

ASYNC_TEST("a process group that is gone cannot be joined" * not_under_valgrind()) {
  auto first = co_await spawn(helper("exit-code", "0"));
  co_await first.wait();
  const auto gone = co_await text_of(spawn(helper("group").process_group(first.pid())));
  CHECK(gone == fmt::format("spawn: process group {}: Operation not permitted", first.pid()));
}

ASYNC_TEST("a process group that there cannot be is refused") {
  const auto zero = co_await text_of(spawn(helper("group").process_group(0)));
  CHECK(zero == "spawn: process group 0: invalid option");
  const auto negative = co_await text_of(spawn(helper("group").process_group(-7)));
  CHECK(negative == "spawn: process group -7: invalid option");
  const auto joined = co_await text_of(spawn(helper("group").process_group(7).new_session()));
  CHECK(joined == "spawn: new session in process group 7: invalid option");
  const auto inherited = co_await text_of(spawn(helper("group").new_session().process_group(process_group::inherit)));
  CHECK(inherited == "spawn: new session in process group of the parent: invalid option");
  const auto own = co_await output_of(helper("exit-code", "0").new_session().process_group(process_group::own));
  CHECK(own.empty());
}

ASYNC_TEST("a child can start with signals blocked and ignored") {
  auto what = helper("status", "SigBlk", "SigIgn");
  what.block_signal(SIGUSR1).block_signal(SIGRTMAX).ignore_signal(SIGHUP).ignore_signal(SIGRTMIN + 3);
  const auto masks = co_await output_of(what);
  const auto bit = [](int signal) { return 1ull << (signal - 1); };
  CHECK(masks == fmt::format("SigBlk:\t{:016x}\nSigIgn:\t{:016x}\n", bit(SIGUSR1) | bit(SIGRTMAX),
                             bit(SIGHUP) | bit(SIGRTMIN + 3)));
}

ASYNC_TEST("a signal that cannot be blocked or ignored is refused") {
  for (const int signal : {INT_MIN, -1, 0, SIGKILL, SIGSTOP, NSIG, INT_MAX}) {
    const auto blocked = co_await text_of(spawn(helper("exit-code", "0").block_signal(signal)));
    CHECK(blocked == fmt::format("spawn: block signal {}: invalid option", signal));
    const auto ignored = co_await text_of(spawn(helper("exit-code", "0").ignore_signal(signal)));
    CHECK(ignored == fmt::format("spawn: ignore signal {}: invalid option", signal));
  }
}

ASYNC_TEST("umask is the child's alone") {
  const auto before = ::umask(022);
  const auto set = co_await output_of(helper("status", "Umask").umask(0137));
  CHECK(set == "Umask:\t0137\n");
  const auto none = co_await output_of(helper("status", "Umask").umask(0));
  CHECK(none == "Umask:\t0000\n");
  const auto inherited = co_await output_of(helper("status", "Umask"));
  CHECK(inherited == "Umask:\t0022\n");
  CHECK(::umask(before) == 022);
  const auto sticky = co_await text_of(spawn(helper("exit-code", "0").umask(01777)));
  CHECK(sticky == "spawn: umask 1777: invalid option");
}

ASYNC_TEST("limits are the child's alone, and what is not set is the parent's" * not_under_valgrind()) {
  const auto files = own_limit(RLIMIT_NOFILE), core = own_limit(RLIMIT_CORE), stack = own_limit(RLIMIT_STACK);
  auto what =
      helper("limits", std::to_string(RLIMIT_NOFILE), std::to_string(RLIMIT_CORE), std::to_string(RLIMIT_STACK));
  what.limit(RLIMIT_NOFILE, 5, 6).limit(RLIMIT_CORE, 0, core.rlim_max).limit(RLIMIT_NOFILE, 100, 200);
  const auto limits = co_await output_of(what);
  CHECK(limits == fmt::format("100 200\n0 {}\n{} {}\n", core.rlim_max, stack.rlim_cur, stack.rlim_max));
  CHECK(own_limit(RLIMIT_NOFILE).rlim_cur == files.rlim_cur);
  CHECK(own_limit(RLIMIT_CORE).rlim_cur == core.rlim_cur);
}

ASYNC_TEST("a limit on descriptors does not reach those that the command passes" * not_under_valgrind()) {
  const auto text = co_await output_of(
      helper("write-fd", "1", "a", "300", "b").fd(300, stdio::same_as(1)).limit(RLIMIT_NOFILE, 100, 100));
  CHECK(text == "ab");
}

ASYNC_TEST("a limit that is refused is said with its value" * not_under_valgrind()) {
  const auto what = helper("exit-code", "0").limit(RLIMIT_CORE, 0, own_limit(RLIMIT_CORE).rlim_max);
  const auto crossed = co_await text_of(spawn(command(what).limit(RLIMIT_NOFILE, 10, 5)));
  CHECK(crossed == "spawn: limit RLIMIT_NOFILE 10:5: Invalid argument");
  const auto unknown = co_await text_of(spawn(command(what).limit(999, 1, RLIM_INFINITY)));
  CHECK(unknown == "spawn: limit 999 1:unlimited: Invalid argument");
  {
    const fault<&system::calls::setrlimit> failing(EPERM, 2);
    const auto text = co_await text_of(spawn(command(what).limit(RLIMIT_NOFILE, 10, RLIM_INFINITY)));
    CHECK(text == "spawn: limit RLIMIT_NOFILE 10:unlimited: Operation not permitted");
  }
  // each name is the one that getrlimit(2) has for the number
  const fault<&system::calls::setrlimit> failing(EPERM, 1, every_time);
  const std::pair<int, std::string> names[] = {
      {RLIMIT_AS, "AS"},           {RLIMIT_CORE, "CORE"},         {RLIMIT_CPU, "CPU"},
      {RLIMIT_DATA, "DATA"},       {RLIMIT_FSIZE, "FSIZE"},       {RLIMIT_LOCKS, "LOCKS"},
      {RLIMIT_MEMLOCK, "MEMLOCK"}, {RLIMIT_MSGQUEUE, "MSGQUEUE"}, {RLIMIT_NICE, "NICE"},
      {RLIMIT_NOFILE, "NOFILE"},   {RLIMIT_NPROC, "NPROC"},       {RLIMIT_RSS, "RSS"},
      {RLIMIT_RTPRIO, "RTPRIO"},   {RLIMIT_RTTIME, "RTTIME"},     {RLIMIT_SIGPENDING, "SIGPENDING"},
      {RLIMIT_STACK, "STACK"}};
  for (const auto& [resource, name] : names) {
    const auto text = co_await text_of(spawn(helper("exit-code", "0").limit(resource, 1, 2)));
    CHECK(text == fmt::format("spawn: limit RLIMIT_{} 1:2: Operation not permitted", name));
  }
}

ASYNC_TEST("nice and the priority at disks are the child's alone") {
  const auto before = ::getpriority(PRIO_PROCESS, 0);
  auto what = helper("priorities");
  const auto lowest = co_await output_of(command(what).nice(19).io_priority(io_class::best_effort, 7));
  CHECK(lowest == "19 2:7\n");
  const auto idle = co_await output_of(command(what).io_priority(io_class::idle));
  CHECK(idle.starts_with(fmt::format("{} 3:", before)));
  CHECK(::getpriority(PRIO_PROCESS, 0) == before);
  if (::geteuid() != 0) {
    const auto greedy = co_await text_of(spawn(command(what).nice(-20)));
    CHECK(greedy == "spawn: nice -20: Permission denied");
    const auto realtime = co_await text_of(spawn(command(what).io_priority(io_class::realtime, 0)));
    CHECK(realtime == "spawn: io priority realtime 0: Operation not permitted");
  }
}

ASYNC_TEST("a priority that is refused is said with its value" * not_under_valgrind()) {
  const auto what = helper("exit-code", "0");
  const auto too_high = co_await text_of(spawn(command(what).nice(20)));
  CHECK(too_high == "spawn: nice 20: invalid option");
  const auto too_low = co_await text_of(spawn(command(what).nice(-21)));
  CHECK(too_low == "spawn: nice -21: invalid option");
  for (const int level : {-1, 8}) {
    const auto text = co_await text_of(spawn(command(what).io_priority(io_class::best_effort, level)));
    CHECK(text == fmt::format("spawn: io priority level {}: invalid option", level));
  }
  {
    const fault<&system::calls::set_nice> failing(EACCES);
    const auto text = co_await text_of(spawn(command(what).nice(-5)));
    CHECK(text == "spawn: nice -5: Permission denied");
  }
  const fault<&system::calls::set_io_priority> failing(EPERM, 1, every_time);
  const auto realtime = co_await text_of(spawn(command(what).io_priority(io_class::realtime)));
  CHECK(realtime == "spawn: io priority realtime 4: Operation not permitted");
  const auto best_effort = co_await text_of(spawn(command(what).io_priority(io_class::best_effort, 0)));
  CHECK(best_effort == "spawn: io priority best effort 0: Operation not permitted");
  const auto idle = co_await text_of(spawn(command(what).io_priority(io_class::idle, 0)));
  CHECK(idle == "spawn: io priority idle 0: Operation not permitted");
}

ASYNC_TEST("a child runs on the processors that it is given") {
  const auto processors = own_processors();
  const auto what = helper("status", "Cpus_allowed_list");
  const auto inherited = co_await output_of(what);
  for (const int processor : processors) {
    const auto one = co_await output_of(command(what).cpu_affinity(processor));
    CHECK(one == fmt::format("Cpus_allowed_list:\t{}\n", processor));
  }
  const auto all = co_await output_of(command(what).cpu_affinity(processors));
  CHECK(all == inherited);
  if (processors.size() > 1) {
    const auto two = co_await output_of(
        helper("status", "Cpus_allowed").cpu_affinity(processors[1], static_cast<unsigned long>(processors[0])));
    const auto one = co_await output_of(helper("status", "Cpus_allowed").cpu_affinity(processors[0]));
    CHECK(two != one);
  }
  CHECK(own_processors() == processors);
}

ASYNC_TEST("a processor that there is not is said, also beside one that there is" * not_under_valgrind()) {
  const auto what = helper("exit-code", "0");
  const auto missing = co_await text_of(spawn(command(what).cpu_affinity(8'190, 8'191)));
  CHECK(missing == "spawn: cpu affinity 8190, 8191: Invalid argument");
  const auto partly = co_await text_of(spawn(command(what).cpu_affinity(8'191, own_processors().front())));
  CHECK(partly == "spawn: cpu affinity 8191: Invalid argument");
  const auto too_high = co_await text_of(spawn(command(what).cpu_affinity(8'192)));
  CHECK(too_high == "spawn: cpu affinity 8192: invalid option");
  const auto negative = co_await text_of(spawn(command(what).cpu_affinity(0, -1)));
  CHECK(negative == "spawn: cpu affinity -1: invalid option");
  const std::vector<int> none;
  const auto nowhere = co_await text_of(spawn(command(what).cpu_affinity(none)));
  CHECK(nowhere == "spawn: cpu affinity to none: invalid option");
  {
    const fault<&system::calls::sched_setaffinity> failing(EPERM);
    const auto text = co_await text_of(spawn(command(what).cpu_affinity(0)));
    CHECK(text == "spawn: cpu affinity 0: Operation not permitted");
  }
  const fault<&system::calls::sched_getaffinity> failing(EINVAL);
  const auto text = co_await text_of(spawn(command(what).cpu_affinity(own_processors())));
  CHECK(text == fmt::format("spawn: cpu affinity {}: Invalid argument", fmt::join(own_processors(), ", ")));
}

ASYNC_TEST("a child without new privileges is marked so") {
  const auto marked = co_await output_of(helper("status", "NoNewPrivs").no_new_privileges());
  CHECK(marked == "NoNewPrivs:\t1\n");
  const auto parents = co_await output_of(helper("status", "NoNewPrivs"));
  CHECK(parents == "NoNewPrivs:\t0\n");
}

ASYNC_TEST("each of these steps can fail, is said by name, and leaves neither child nor descriptor" *
           not_under_valgrind()) {
  const auto what = helper("exit-code", "0").in(stdio::pipe).out(stdio::pipe).err(stdio::null);
  {
    const fault<&system::calls::ignore_signal> failing(EINVAL, 2);
    const auto text = co_await text_of(spawn(command(what).ignore_signal(SIGHUP).ignore_signal(SIGINT)));
    CHECK(text == fmt::format("spawn: ignore signal {}: Invalid argument", SIGINT));
  }
  {
    const fault<&system::calls::setsid> failing(EPERM);
    const auto text = co_await text_of(spawn(command(what).new_session()));
    CHECK(text == "spawn: new session: Operation not permitted");
  }
  {
    const fault<&system::calls::setpgid> failing(EACCES);
    const auto text = co_await text_of(spawn(command(what).process_group(77)));
    CHECK(text == "spawn: process group 77: Permission denied");
  }
  {
    const fault<&system::calls::prctl_no_new_privileges> failing(EINVAL);
    const auto text = co_await text_of(spawn(command(what).no_new_privileges()));
    CHECK(text == "spawn: no new privileges: Invalid argument");
  }
}

}  // namespace
}  // namespace cohort::test::attributes_test
