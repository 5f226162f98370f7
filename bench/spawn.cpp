// SPDX-License-Identifier: BSL-1.0
/// What it costs to start /bin/true: the time that the calling loop is held, and the time until the child is reaped, in
/// parents that have touched 10 MiB, 1 GiB and 4 GiB, one child after the other and 8 at a time, beside the bare system
/// calls, posix_spawn and fork for the same job. All figures are for one child.
///
///     bench/spawn [rounds]
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <functional>
#include <string>
#include <utility>
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

// Starts `count` children by `start`, which returns their pids, and reaps them.
template <class Start>
times each(std::size_t count, Start start) {
  const auto begin = clock::now();
  std::vector<pid_t> started;
  started.reserve(count);
  for (std::size_t i = 0; i < count; ++i) started.push_back(start());
  times result;
  result.held = elapsed(begin) / static_cast<double>(count);
  for (const pid_t pid : started) {
    siginfo_t info;
    if (pid == -1 || ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED) == -1) fail("start");
    if (info.si_code != CLD_EXITED || info.si_status != 0) fail(program);
  }
  result.whole = elapsed(begin) / static_cast<double>(count);
  return result;
}

times by_clone(std::size_t count) {
  return each(count, [] {
    alignas(16) static char stack[64 * 1024];
    const auto entry = [](void*) { return ::execve(program, arguments, environ); };
    return ::clone(entry, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, nullptr);
  });
}

times by_posix_spawn(std::size_t count) {
  return each(count, [] {
    pid_t pid = -1;
    return ::posix_spawn(&pid, program, nullptr, nullptr, arguments, environ) == 0 ? pid : -1;
  });
}

times by_fork(std::size_t count) {
  return each(count, [] {
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::execve(program, arguments, environ);
      ::_exit(127);
    }
    return pid;
  });
}

asio::awaitable<void> start_and_wait(std::size_t count, times& result) {
  const cohort::command command(program);
  const auto begin = clock::now();
  std::vector<cohort::child> started;
  started.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    auto child = co_await cohort::spawn(command);
    started.push_back(std::move(child));
  }
  result.held = elapsed(begin) / static_cast<double>(count);
  for (auto& child : started) {
    const auto status = co_await child.wait();
    if (!status.success()) fail(program);
  }
  result.whole = elapsed(begin) / static_cast<double>(count);
}

times by_cohort(std::size_t count) {
  static asio::io_context context(1);  // one for all rounds, as a server has it
  times result;
  asio::co_spawn(context, start_and_wait(count, result), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
  context.restart();
  context.run();
  return result;
}

struct way {
  std::string name;
  times (*run)(std::size_t count);
};

// The medians of each way, in their order.
std::vector<times> measure(std::size_t rounds, std::size_t count, const std::vector<way>& ways) {
  std::vector<std::vector<double>> whole(ways.size());
  std::vector<std::function<double()>> jobs;
  for (std::size_t i = 0; i < ways.size(); ++i) {
    jobs.push_back([&, i] {
      const auto result = ways[i].run(count);
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

void run(const std::string& parent, std::size_t rounds, std::size_t count) {
  const std::vector<way> alternating = {{"raw", by_clone}, {"posix_spawn", by_posix_spawn}, {"cohort", by_cohort}};
  // It makes the next one pay for pages that are copied on write, and takes seconds in a large parent.
  const std::vector<way> alone = {{"fork", by_fork}};
  auto figures = measure(std::max(rounds / count, 8ul), count, alternating);
  const auto cohort = figures.back();
  figures.back() = measure(3, count, alone)[0];

  const std::string setting = fmt::format("{} parent, {}", parent, count == 1 ? "one at a time" : "8 at a time");
  const char* const names[] = {"raw", "posix_spawn", "fork"};
  for (std::size_t i = 0; i < figures.size(); ++i) {
    report("spawn, loop held, " + setting, cohort.held, names[i], figures[i].held, "µs");
  }
  for (std::size_t i = 0; i < figures.size(); ++i) {
    report("spawn + wait, " + setting, cohort.whole, names[i], figures[i].whole, "µs");
  }
}

// In MiB; 0 if the kernel does not say.
std::size_t free_memory() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("MemAvailable:"))
      return std::strtoul(line.c_str() + sizeof "MemAvailable:", nullptr, 10) / 1024;
  }
  return 0;
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
  constexpr std::size_t mib = 1024 * 1024, reserve = 1024;

  // Not pinned: a loop that waits and a child that works on two processors is how it is used.
  std::size_t touched = 0;
  for (const std::size_t size : {10, 1024, 4096}) {
    const auto parent = size < 1024 ? fmt::format("{} MiB", size) : fmt::format("{} GiB", size / 1024);
    if (free_memory() < size - touched + reserve) {
      fmt::print("{} parent: left out, {} MiB of memory are free\n", parent, free_memory());
      continue;
    }
    touch((size - touched) * mib);
    touched = size;
    for (const std::size_t count : {1, 8}) run(parent, size < 1024 ? rounds : rounds / 2, count);
  }
}
