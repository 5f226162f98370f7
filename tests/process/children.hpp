// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "../../include/cohort/process/spawn.hpp"
#include "../support/harness.hpp"
#include "directory.hpp"

namespace cohort::test {

/// Marks a test that valgrind cannot run. It runs the clone as a fork, so that the parent sees nothing of what happens
/// in a child before its program runs: a step that fails, a system call that is replaced and counted. And valgrind 3.19
/// knows neither pidfd_open nor pidfd_send_signal.
inline auto not_under_valgrind() {
  const char* const preloaded = std::getenv("LD_PRELOAD");
  return doctest::skip(preloaded != nullptr && std::string_view(preloaded).find("vgpreload") != std::string_view::npos);
}

/// The helper executable, with a verb and its arguments.
template <class... Arguments>
command helper(const Arguments&... arguments) {
  return command(helper_path(), arguments...);
}

/// What a program that succeeds writes to its standard output.
inline asio::awaitable<std::string> output_of(command what) {
  auto started = co_await spawn(what.out(stdio::pipe));
  auto text = co_await started.out().read_all();
  const auto status = co_await started.wait();
  CHECK(status == exit_status::exited(0));
  co_return text;
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

}  // namespace cohort::test
