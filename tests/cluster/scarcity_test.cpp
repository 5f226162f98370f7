// SPDX-License-Identifier: BSL-1.0
// Memory that is refused once, in the middle of each main scene (tests/verbs/scenes.cpp): what comes of it is an error
// of an operation, of the loop or of one worker. Never a crash, a wait without an end, a child or a descriptor that is
// left. `helper scarce SCENE` tries every request of a scene, a few hundred cases; the scenes of clusters beyond the
// first one are for that alone.
#include <string>

#include "../../include/cohort/process/exec.hpp"
#include "../process/children.hpp"

namespace cohort::test::scarcity_test {
namespace {

/// Where the places are not known at which Asio does not survive it, which are none of the library's.
constexpr bool unknown = sanitized || detail::throws_its_own;

asio::awaitable<void> check_scene(std::string scene, unsigned step) {
  auto program = helper("scarce", scene, std::to_string(step));
  exec_options options;
  options.merge_errors = true;
  const auto ran = co_await exec_file(std::move(program), options);
  INFO(ran.out);
  CHECK(ran.status.success());
  CHECK(ran.out.find(" cases; ") != std::string::npos);
}

ASYNC_TEST("a child, a pipe and a channel survive that memory is refused" * doctest::skip(unknown)) {
  for (const char* scene : {"spawn", "exec", "channel", "lease", "peer"}) co_await check_scene(scene, 5);
}

ASYNC_TEST("a cluster survives that memory is refused to its primary" * doctest::skip(unknown)) {
  co_await check_scene("cluster", 29);
}

ASYNC_TEST("a cluster that is told to stop stops, whatever memory is refused to it from then on" *
           doctest::skip(unknown)) {
  co_await check_scene("stop", 5);
}

}  // namespace
}  // namespace cohort::test::scarcity_test
