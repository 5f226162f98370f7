// SPDX-License-Identifier: BSL-1.0
// One of the two builds of a program that builds_test.cpp has talk to each other: BUILD is 1 or 2. Writes what it
// hears.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <system_error>
#include <variant>

#include <fmt/format.h>

#include "../../include/cohort/ipc/peer.hpp"

namespace app {

struct greeting {
  std::uint32_t build = 0;
};

#if BUILD == 1
struct settings {
  std::uint32_t size = 0;
};
struct reset {};
using message = std::variant<reset, greeting, settings>;
using removed_or_added = reset;
#else
struct settings {
  std::uint32_t size = 0;
  std::string name;
};
struct reload {};
using message = std::variant<settings, greeting, reload>;
using removed_or_added = reload;
#endif

struct protocol {
  using to_child = message;
  using to_parent = message;
};

}  // namespace app

namespace {

using namespace cohort;
using app::message;

asio::awaitable<void> hear(channel<message, message>& other) {
  const auto heard = co_await other.receive();
  if (!heard) {
    fmt::print("the end\n");
  } else if (const auto* word = std::get_if<app::greeting>(&*heard)) {
    fmt::print("greeting of build {}\n", word->build);
  } else {
    fmt::print("alternative {}\n", heard->index());
  }
}

template <class M>
asio::awaitable<void> try_to_send(channel<message, message>& other) {
  try {
    const M word{};
    co_await other.send(word);
    fmt::print("sent\n");
  } catch (const std::system_error& error) {
    fmt::print("{}{}\n", error.code() == errc::unknown_message ? "" : "another error: ", error.what());
  }
}

asio::awaitable<void> talk() {
  auto other = parent<app::protocol>(co_await asio::this_coro::executor);
  co_await other.send<app::greeting>(std::uint32_t{BUILD});
  co_await hear(other);
  co_await try_to_send<app::removed_or_added>(other);
  co_await try_to_send<app::settings>(other);
  co_await other.send<app::greeting>(std::uint32_t{10 + BUILD});
  co_await other.disconnect();
  co_await hear(other);
  co_await hear(other);
}

}  // namespace

int main() {
  try {
    asio::io_context context;
    asio::co_spawn(context, talk(), [](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
    context.run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "build: %s\n", error.what());
    return 1;
  }
}
