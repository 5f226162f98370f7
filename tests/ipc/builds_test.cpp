// SPDX-License-Identifier: BSL-1.0
// Two programs that were built from two versions of one protocol: see build.cpp.
#include <filesystem>
#include <string>
#include <utility>

#include "../../include/cohort/ipc/peer.hpp"
#include "../../include/cohort/process/exec.hpp"
#include "channels.hpp"

namespace cohort::test::builds_test {
namespace {

/// Runs the build of that number with its end of a channel.
asio::awaitable<output> run_build(int number, int end) {
  const auto here = std::filesystem::path(helper_path()).parent_path();
  command program(here / ("build_" + std::to_string(number)));
  program.fd(3, stdio::borrow(end)).env(detail::channel_variable, "3");
  const exec_options options;
  co_return co_await exec_file(program, options);
}

ASYNC_TEST("two builds of a program speak in what they share, and what they do not share is not sent") {
  const auto executor = co_await asio::this_coro::executor;
  const auto ends = make_channel_pair();
  outcome_of<output> first(executor, run_build(1, ends.first.get()));
  outcome_of<output> second(executor, run_build(2, ends.second.get()));
  const output of_first = co_await first.get();
  const output of_second = co_await second.get();

  CHECK(of_first.err == "");
  CHECK(of_first.out ==
        "greeting of build 2\n"
        "send: app::reset: the message is not known to both sides\n"
        "send: app::settings: the message is not known to both sides\n"
        "greeting of build 12\n"
        "the end\n");
  CHECK(of_first.status.success());

  CHECK(of_second.err == "");
  CHECK(of_second.out ==
        "greeting of build 1\n"
        "send: app::reload: the message is not known to both sides\n"
        "send: app::settings: the message is not known to both sides\n"
        "greeting of build 11\n"
        "the end\n");
  CHECK(of_second.status.success());
}

}  // namespace
}  // namespace cohort::test::builds_test
