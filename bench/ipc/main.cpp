// SPDX-License-Identifier: BSL-1.0
/// Messages and handles between two processes, each figure beside the raw system calls for the same job in the same
/// run.
///
///     bench_ipc [ping-pong | one-way | handles]…    all of them if none is named
///
/// "same core" pins both processes to one processor, where no wake-up has to cross; "two cores" to two. "polling" looks
/// for input for a while before it sleeps, on both sides.
#include "benchmarks.hpp"

#include <string_view>

int main(int argc, char* argv[]) {
  const auto wanted = [&](std::string_view name) {
    for (int i = 1; i < argc; ++i) {
      if (argv[i] == name) return true;
    }
    return argc == 1;
  };
  if (wanted("ping-pong")) cohort::bench::ping_pongs();
  if (wanted("one-way")) cohort::bench::one_way();
  if (wanted("handles")) cohort::bench::handles();
}
