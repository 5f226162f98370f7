// SPDX-License-Identifier: BSL-1.0
// Starts two children, gives each an end of one channel, and only hears from them again when they are done.

#include <cstdio>
#include <exception>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/format.h>

#include <cohort/ipc/peer.hpp>

#include "protocol.hpp"

using asio::awaitable;

/// Gives `end` away. This completes when the child has taken it, and until then it is ours: if the child dies first,
/// `introduces` still holds it, and could go to another child.
awaitable<void> introduce(cohort::peer<protocol>& child, std::string other, cohort::descriptor end) {
  introduction introduces;
  introduces.name = std::move(other);
  introduces.channel = std::move(end);
  co_await child.send(introduces);
}

awaitable<void> see_off(cohort::peer<protocol>& child, std::string name) {
  const auto done = co_await child.receive();
  if (!done) throw std::runtime_error(name + " left without a report");
  const auto status = co_await child.wait();
  fmt::print("{} has sent {}, received {} and {}\n", name, done->sent, done->received, status);
}

awaitable<void> run() {
  const auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  auto anna = co_await cohort::spawn<protocol>(cohort::command(here / "direct_child", "anna", "serve"));
  auto bert = co_await cohort::spawn<protocol>(cohort::command(here / "direct_child", "bert"));

  // A child that sees the end of this channel knows that the other is gone: so no copy may stay here.
  auto ends = cohort::make_channel_pair();
  co_await introduce(anna, "bert", std::move(ends.first));
  co_await introduce(bert, "anna", std::move(ends.second));

  co_await see_off(anna, "anna");
  co_await see_off(bert, "bert");
}

int main() {
  try {
    asio::io_context context(1);
    asio::co_spawn(context, run(), [](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
    context.run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "parent: {}\n", error.what());
    return 1;
  }
}
