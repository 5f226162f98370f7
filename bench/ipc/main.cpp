// SPDX-License-Identifier: BSL-1.0
/// Messages and handles between two processes, each figure beside the raw system calls for the same job in the same
/// run.
///
///     bench_ipc [--shared-memory] [ping-pong | one-way | handles | loans]…    all of them if none is named
///
/// With --shared-memory the channels have rings of shared memory; the raw side has the socket all the same.
///
/// "same core" pins both processes to one processor, where no wake-up has to cross; "two cores" to two. "polling" looks
/// for input for a while before it sleeps, on both sides.
#include "benchmarks.hpp"
#include "setting.hpp"

#include <string_view>

int main(int argc, char* argv[]) {
  if (argc > 1 && argv[1] == std::string_view("--shared-memory")) {
    cohort::bench::carrier = cohort::transport::shared_memory;
  }
  const auto wanted = [&](std::string_view name) {
    for (int i = 1; i < argc; ++i) {
      if (argv[i] == name) return true;
    }
    return argc == (cohort::bench::carrier == cohort::transport::socket ? 1 : 2);
  };
  if (wanted("ping-pong")) cohort::bench::ping_pongs();
  if (wanted("one-way")) cohort::bench::one_way();
  if (wanted("handles")) cohort::bench::handles();
  if (wanted("loans")) cohort::bench::loans();
}
