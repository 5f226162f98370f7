// SPDX-License-Identifier: BSL-1.0
// A worker for a primary of Node's cluster module, to be driven by tests. Listens at 127.0.0.1, port $ACCEPT_PORT, and
// answers each connection with who it is. A message is answered by itself; {"$op":"leave"} has it leave, and
// {"$op":"throw"} fail.

#include <cstdlib>
#include <stdexcept>
#include <string>

#include <unistd.h>

#include <fmt/format.h>

#include "../../include/cohort/cluster/node/run_node_worker.hpp"

namespace {

namespace asio = cohort::asio;

asio::awaitable<void> say_who(asio::ip::tcp::socket socket, cohort::worker& self) {
  const auto text = fmt::format("handled by worker {} pid {}\n", self.slot(), ::getpid());
  co_await socket.async_write_some(asio::buffer(text), asio::use_awaitable);  // so little goes at once
}

void answer(cohort::node_primary_line& primary, const cohort::json& message) {
  const auto op = message.is_object() ? message.find("$op") : message.end();
  if (message.is_object() && op != message.end() && *op == "leave") {
    primary.leave();
  } else if (message.is_object() && op != message.end() && *op == "throw") {
    throw std::runtime_error("told to throw");
  } else {
    primary.post(message);
  }
}

}  // namespace

int main() {
  const char* const port = std::getenv("ACCEPT_PORT");
  cohort::node_worker_options options;
  options.listen = {fmt::format("127.0.0.1:{}", port != nullptr ? port : "0")};
  options.on_message = answer;
  return cohort::run_node_worker(say_who, options);
}
