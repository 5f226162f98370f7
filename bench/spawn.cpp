// SPDX-License-Identifier: BSL-1.0
/// What it costs to start /bin/true: the time that the calling loop is held, and the time until the child is reaped, in
/// a small and in a large parent, beside the bare system calls, posix_spawn and fork for the same job.
///
///     bench/spawn [rounds [large parent in MiB]]
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../include/cohort/process/spawn.hpp"
#include "support.hpp"

namespace {

namespace asio = cohort::asio;
using namespace cohort::bench;

const char* const program = "/bin/true";
char* const arguments[] = {const_cast<char*>(program), nullptr};

[[noreturn]] void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

struct times {
  double held = 0, whole = 0;
};

times reap(pid_t pid, clock::time_point start) {
  times result;
  result.held = elapsed(start);
  siginfo_t info;
  if (pid == -1 || ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED) == -1 || info.si_status != 0) fail("child");
  result.whole = elapsed(start);
  return result;
}

times by_clone() {
  alignas(16) static char stack[64 * 1024];
  const auto start = clock::now();
  const int flags = CLONE_VM | CLONE_VFORK | SIGCHLD;
  const auto entry = [](void*) { return ::execve(program, arguments, environ); };
  return reap(::clone(entry, stack + sizeof stack, flags, nullptr), start);
}

times by_posix_spawn() {
  const auto start = clock::now();
  pid_t pid = -1;
  if (::posix_spawn(&pid, program, nullptr, nullptr, arguments, environ) != 0) fail("posix_spawn");
  return reap(pid, start);
}

times by_fork() {
  const auto start = clock::now();
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::execve(program, arguments, environ);
    ::_exit(127);
  }
  return reap(pid, start);
}

times by_cohort() {
  static asio::io_context context(1);  // one for all rounds, as a server has it
  times result;
  const auto job = [&]() -> asio::awaitable<void> {
    const cohort::command command(program);
    const auto start = clock::now();
    auto child = co_await cohort::spawn(command);
    result.held = elapsed(start);
    const auto status = co_await child.wait();
    result.whole = elapsed(start);
    if (!status.success()) fail("child");
  };
  asio::co_spawn(context, job(), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
  context.restart();
  context.run();
  return result;
}

struct way {
  std::string name;
  times (*run)();
};

// The medians of each way, in their order.
std::vector<times> measure(std::size_t rounds, const std::vector<way>& ways) {
  std::vector<std::vector<double>> whole(ways.size());
  std::vector<std::function<double()>> jobs;
  for (std::size_t i = 0; i < ways.size(); ++i) {
    jobs.push_back([&, i] {
      const auto result = ways[i].run();
      whole[i].push_back(result.whole);
      return result.held;
    });
  }
  const auto held = alternate(rounds, jobs);
  std::vector<times> medians(ways.size());
  for (std::size_t i = 0; i < ways.size(); ++i) {
    medians[i].held = held[i];
    medians[i].whole = median(whole[i]);
  }
  return medians;
}

void run(const std::string& parent, std::size_t rounds) {
  const std::vector<way> alternating = {{"cohort", by_cohort}, {"raw", by_clone}, {"posix_spawn", by_posix_spawn}};
  const std::vector<way> alone = {{"fork", by_fork}};  // it makes the next one pay for pages that are copied on write
  const auto figures = measure(rounds, alternating);
  const auto fork = measure(rounds / 8, alone)[0];

  const auto& cohort = figures[0];
  for (std::size_t i = 1; i < figures.size(); ++i) {
    report("spawn, loop held, " + parent + " parent", cohort.held, alternating[i].name, figures[i].held, "µs");
    report("spawn + wait, " + parent + " parent", cohort.whole, alternating[i].name, figures[i].whole, "µs");
  }
  report("spawn, loop held, " + parent + " parent", cohort.held, "fork", fork.held, "µs");
  report("spawn + wait, " + parent + " parent", cohort.whole, "fork", fork.whole, "µs");
}

// Resident, and not in huge pages, as a heap that has grown piece by piece is.
void touch(std::size_t size) {
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("mmap");
  ::madvise(memory, size, MADV_NOHUGEPAGE);
  std::memset(memory, 1, size);
}

}  // namespace

int main(int argc, char** argv) {
  const auto rounds = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 400;
  const auto large = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1024;
  constexpr std::size_t mib = 1024 * 1024, small = 10;
  if (large < small) fail("the large parent is smaller than the small one");

  // Not pinned: a loop that waits and a child that works on two processors is how it is used.
  touch(small * mib);
  run(fmt::format("{} MiB", small), rounds);
  touch((large - small) * mib);
  run(fmt::format("{} MiB", large), rounds / 4);
}
