// SPDX-License-Identifier: BSL-1.0
// Counts the kinds of header files twice: by a script of the shell, and by the same tools as children of this process.

#include <cstddef>
#include <cstdio>
#include <exception>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <cohort/process/exec.hpp>
#include <cohort/process/spawn.hpp>

using asio::awaitable;
using cohort::command;
using cohort::stdio;

awaitable<void> by_shell() {
  const auto done =
      co_await cohort::exec("ls -lR /usr/include | grep -o '[.][a-z]*$' | sort | uniq -c | sort -rn | head -n 5");
  fmt::print("{}the shell {}\n", done.out, done.status);
}

std::vector<command> tools() {
  return {
      command("ls", "-lR", "/usr/include"),
      command("grep", "-o", "[.][a-z]*$"),
      command("sort"),
      command("uniq", "-c"),
      command("sort", "-rn"),
      command("head", "-n", "5"),
  };
}

// The output of each is the input of the next. Unlike the shell, this knows how each of them has ended.
awaitable<void> by_hand() {
  auto commands = tools();
  std::vector<cohort::child> children;
  for (auto& each : commands) {
    if (!children.empty()) each.in(children.back().out().release());
    auto started = co_await cohort::spawn(std::move(each.out(stdio::pipe)));
    children.push_back(std::move(started));
  }
  while (const auto line = co_await children.back().out().read_line()) fmt::print("{}\n", *line);

  const auto names = tools();
  for (std::size_t n = 0; n < children.size(); ++n) {
    const auto status = co_await children[n].wait();
    fmt::print("{} {}\n", names[n].program(), status);
  }
}

awaitable<void> run() {
  co_await by_shell();
  co_await by_hand();
}

int main() {
  try {
    asio::io_context context(1);
    asio::co_spawn(context, run(), [](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
    context.run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "exec_pipeline: {}\n", error.what());
    return 1;
  }
}
