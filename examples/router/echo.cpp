// SPDX-License-Identifier: BSL-1.0
// The worker behind echo.localhost.

#include "worker.hpp"

int main() {
  return run("router_echo", [](const http::request_parser& request) {
    return fmt::format("you have asked for {}\n", request.path());
  });
}
