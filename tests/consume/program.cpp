// SPDX-License-Identifier: BSL-1.0
// What each way to consume cohort builds and runs: a program that starts a child and waits for it. PACKAGE_VERSION is
// what the package says of itself.
#include <cstdio>

#include <fmt/format.h>

#include <cohort/core/run_sync.hpp>
#include <cohort/process/spawn.hpp>
#include <cohort/version.hpp>

cohort::asio::awaitable<cohort::exit_status> run() {
  auto child = co_await cohort::spawn(cohort::command("sh", "-c", "exit 3"));
  co_return co_await child.wait();
}

int main() {
  constexpr int major = COHORT_VERSION / 10000, minor = COHORT_VERSION / 100 % 100, patch = COHORT_VERSION % 100;
  const auto version = fmt::format("{}.{}.{}", major, minor, patch);
  const cohort::exit_status status = cohort::run_sync(run());
  fmt::print("cohort {} of package {}: the child {}\n", version, PACKAGE_VERSION, status);
  return version == PACKAGE_VERSION && status.code() == 3 ? 0 : 1;
}
