// SPDX-License-Identifier: BSL-1.0
#include <cstdio>
#include <string>

#include "../../include/cohort/cluster/control/client.hpp"
#include "../../include/cohort/core/run_sync.hpp"
#include "verb.hpp"

namespace cohort::test::control_verbs {
namespace {

asio::awaitable<int> talk(std::string path, std::string what) {
  auto client = co_await control_client::connect(path);
  if (what == "reload") {
    const auto result = co_await client.reload();
    co_return result.success() ? 0 : 1;
  }
  if (what == "upgrade") {
    const auto result = co_await client.upgrade();
    co_return result.success() ? 0 : 1;
  }
  co_await client.wait_end();
  co_return 0;
}

// `admin PATH reload`, `admin PATH upgrade`, `admin PATH wait`: a client of a control socket that a test can kill
const verb admin_verb("admin", [](const verb::arguments& arguments) {
  return run_sync(talk(arguments.at(0), arguments.at(1)));
});

}  // namespace
}  // namespace cohort::test::control_verbs
