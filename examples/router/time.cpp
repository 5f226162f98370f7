// SPDX-License-Identifier: BSL-1.0
// The worker behind time.localhost.

#include <ctime>

#include "worker.hpp"

int main() {
  return run("router_time",
             [](const http::request_parser&) { return fmt::format("{} seconds since 1970\n", std::time(nullptr)); });
}
