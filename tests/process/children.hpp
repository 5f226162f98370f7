// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>

#include "../../include/cohort/process/spawn.hpp"
#include "../support/harness.hpp"

namespace cohort::test {

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

}  // namespace cohort::test
