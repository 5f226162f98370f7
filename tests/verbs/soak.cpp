// SPDX-License-Identifier: BSL-1.0
#include "../ipc/soak.hpp"

#include <filesystem>
#include <iterator>
#include <stdexcept>
#include <string>

#include "../../include/cohort/ipc/peer.hpp"
#include "verb.hpp"

namespace cohort::test::soak_verbs {
namespace {

std::ptrdiff_t open_descriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
}

asio::awaitable<void> run(unsigned seed) {
  auto both = parent<soak::protocol>(co_await asio::this_coro::executor);
  soak::side mine(both, seed);
  co_await mine.run();
}

// The other side of soak_test.cpp, until that has had enough.
const verb soaking("soak", [](const verb::arguments& arguments) {
  const auto before = open_descriptors();  // with the channel
  {
    asio::io_context context;
    asio::co_spawn(context, run(static_cast<unsigned>(std::stoul(arguments.at(0)))), [](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
    context.run();
  }
  if (open_descriptors() >= before) throw std::runtime_error("descriptors have been left open");
  return 0;
});

}  // namespace
}  // namespace cohort::test::soak_verbs
