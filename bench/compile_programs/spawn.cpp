// SPDX-License-Identifier: BSL-1.0
// Starts a program and waits for its end, with the narrow header.
#include <cohort/core/run_sync.hpp>
#include <cohort/process/spawn.hpp>

asio::awaitable<void> run() {
  auto child = co_await cohort::spawn(cohort::command("true"));
  co_await child.wait();
}

int main() { cohort::run_sync(run()); }
