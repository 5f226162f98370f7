// SPDX-License-Identifier: BSL-1.0
// A program that is built with ThreadSanitizer, and starts others in several threads. Exits with 0 if all went well.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "../../include/cohort/core/run_sync.hpp"
#include "../../include/cohort/process/exec.hpp"
#include "../../include/cohort/process/spawn.hpp"

namespace {

cohort::asio::awaitable<cohort::exit_status> with_all_steps() {
  cohort::command what("/bin/sh", "-c", "exit 3");
  what.cwd("/").umask(022).nice(19).limit(RLIMIT_CORE, 0, 0).ignore_signal(SIGHUP).in(cohort::stdio::null);
  what.out(cohort::stdio::pipe).err(cohort::stdio::same_as(1)).fd(7, cohort::stdio::null).new_session();
  auto started = co_await cohort::spawn(what);
  co_return co_await started.wait();
}

void start_some() {
  for (int i = 0; i < 5; ++i) {
    const auto done = cohort::run_sync(cohort::exec_file(cohort::command("echo", "here")));
    const auto status = cohort::run_sync(with_all_steps());
    if (done.out == "here\n" && status.code() == 3) continue;
    std::fprintf(stderr, "a program that was started has not done what it should\n");
    std::exit(1);
  }
}

}  // namespace

int main() {
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) threads.emplace_back(start_some);
  for (auto& each : threads) each.join();
  return 0;
}
