// SPDX-License-Identifier: BSL-1.0
// The parent of a child: spawn, send, receive, wait.
#include <cstdint>
#include <optional>
#include <variant>

#include <fmt/format.h>

#include <cohort/core/run_sync.hpp>
#include <cohort/ipc/peer.hpp>

struct job {
  std::uint64_t from;
  std::uint64_t to;
};
struct stop {};
struct result {
  double sum;
};

struct protocol {
  using to_child = std::variant<job, stop>;
  using to_parent = result;
};

asio::awaitable<void> parent() {
  auto child = co_await cohort::spawn<protocol>(cohort::command("./child"));
  co_await child.send<job>(0u, 1'000'000u);
  const std::optional<result> answer = co_await child.receive();
  if (answer) fmt::print("the sum is {}\n", answer->sum);
  co_await child.send<stop>();
  const cohort::exit_status status = co_await child.wait();
  fmt::print("the child {}\n", status);
}

int main() { cohort::run_sync(parent()); }
