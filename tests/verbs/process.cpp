// SPDX-License-Identifier: BSL-1.0
// What tests of the process folder have a child do.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <exception>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../include/cohort/process/spawn.hpp"
#include "verb.hpp"
#include "../../include/cohort/core/system.hpp"

namespace cohort::test::process_verbs {
namespace {

// All that the program was started with, one argument a line.
const verb command_line("command-line", [](const verb::arguments&) {
  std::ifstream file("/proc/self/cmdline");
  std::string line;
  while (std::getline(file, line, '\0')) std::printf("%s\n", line.c_str());
  return 0;
});

const verb environment("environment", [](const verb::arguments&) {
  for (char** variable = environ; *variable != nullptr; ++variable) std::printf("%s\n", *variable);
  return 0;
});

// The named lines of /proc/self/status (proc_pid_status(5)), in the order of the file.
const verb status("status", [](const verb::arguments& arguments) {
  std::ifstream file("/proc/self/status");
  std::string line;
  while (std::getline(file, line)) {
    for (const auto& name : arguments) {
      if (line.starts_with(name + ':')) std::printf("%s\n", line.c_str());
    }
  }
  return 0;
});

const verb session("session", [](const verb::arguments&) {
  std::printf("%d\n", static_cast<int>(::getsid(0)));
  return 0;
});

// The soft and the hard limit of each resource, by number.
const verb limits("limits", [](const verb::arguments& arguments) {
  for (const auto& resource : arguments) {
    rlimit limit;
    if (::getrlimit(static_cast<decltype(RLIMIT_CPU)>(std::stoi(resource)), &limit) == -1) return 1;
    std::printf("%llu %llu\n", static_cast<unsigned long long>(limit.rlim_cur),
                static_cast<unsigned long long>(limit.rlim_max));
  }
  return 0;
});

// The nice value, and class and level of the priority at disks.
const verb priorities("priorities", [](const verb::arguments&) {
  const auto io = ::syscall(SYS_ioprio_get, 1, 0);
  std::printf("%d %ld:%ld\n", ::getpriority(PRIO_PROCESS, 0), io >> 13, io & 7);
  return 0;
});

const verb group("group", [](const verb::arguments&) {
  std::printf("%d\n", static_cast<int>(::getpgrp()));
  return 0;
});

const verb death_signal("death-signal", [](const verb::arguments&) {
  int signal = 0;
  ::prctl(PR_GET_PDEATHSIG, &signal);
  std::printf("%d\n", signal);
  return 0;
});

const verb read_fd("read-fd", [](const verb::arguments& arguments) {
  char buffer[4096];
  for (const auto& fd : arguments) {
    for (ssize_t size; (size = ::read(std::stoi(fd), buffer, sizeof buffer)) != 0;) {
      if (size < 0) throw std::system_error(errno, std::system_category(), "read");
      std::fwrite(buffer, 1, static_cast<std::size_t>(size), stdout);
    }
  }
  return 0;
});

// Pairs of a descriptor and a text.
const verb write_fd("write-fd", [](const verb::arguments& arguments) {
  for (std::size_t i = 0; i + 1 < arguments.size(); i += 2) {
    if (::write(std::stoi(arguments[i]), arguments[i + 1].data(), arguments[i + 1].size()) < 0) return 1;
  }
  return 0;
});

const verb blocking("blocking", [](const verb::arguments& arguments) {
  for (const auto& fd : arguments) {
    if ((::fcntl(std::stoi(fd), F_GETFL) & O_NONBLOCK) != 0) return 1;
  }
  return 0;
});

const verb fill("fill", [](const verb::arguments& arguments) {
  const std::string text(std::stoul(arguments.at(0)), 'x');
  std::fwrite(text.data(), 1, text.size(), stdout);
  return 0;
});

// Uses so many milliseconds of processor time.
const verb burn("burn", [](const verb::arguments& arguments) {
  const auto end = std::stol(arguments.at(0)) * (CLOCKS_PER_SEC / 1000);
  while (std::clock() < end) {
  }
  return 0;
});

// Says "ready" once it reads no more.
const verb close_stdin("close-stdin", [](const verb::arguments&) {
  ::close(STDIN_FILENO);
  std::printf("ready\n");
  std::fflush(stdout);
  ::pause();
  return 0;
});

void run(asio::awaitable<void> job) {
  asio::io_context context;
  asio::co_spawn(context, std::move(job), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
  context.run();
}

asio::awaitable<void> start_and_pause(bool die_together) {
  command sleep("/proc/self/exe", "sleep", "600000");
  const auto grandchild = co_await spawn(sleep.die_with_parent(die_together).out(stdio::null));
  std::printf("%d\n", static_cast<int>(grandchild.pid()));
  std::fflush(stdout);
  ::pause();
}

// Starts a child, says its pid, and lives on. The argument is 1 if the child is to die with it.
const verb parent("parent", [](const verb::arguments& arguments) {
  run(start_and_pause(arguments.at(0) == "1"));
  return 0;
});

asio::awaitable<void> start_and_wait(command what) {
  auto started = co_await spawn(std::move(what));
  co_await started.wait();
}

// Starts a child whose output and error output are its own, the other way round.
const verb swap_output("swap-output", [](const verb::arguments&) {
  command swapped("/proc/self/exe", "write-fd", "1", "to 1", "2", "to 2");
  run(start_and_wait(swapped.out(stdio::borrow(2)).err(stdio::borrow(1))));
  return 0;
});

// Starts a child whose error output goes where its own output, which it does not set, goes.
const verb join_output("join-output", [](const verb::arguments&) {
  command joined("/proc/self/exe", "write-fd", "1", "to 1,", "2", "to 2");
  run(start_and_wait(joined.err(stdio::same_as(1))));
  return 0;
});

// Starts a child that kills it before the kernel has been asked to kill the child with it.
const verb orphan("orphan", [](const verb::arguments&) {
  system::call.prctl_pdeathsig = [](int) {
    const auto before = ::getppid();
    ::kill(before, SIGKILL);
    while (::getppid() == before) ::sched_yield();
    return 0;
  };
  run(start_and_wait(command("/proc/self/exe", "echo", "the program has run")));
  return 0;
});

}  // namespace
}  // namespace cohort::test::process_verbs
