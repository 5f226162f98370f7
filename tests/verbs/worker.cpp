// SPDX-License-Identifier: BSL-1.0
// Workers for tests of the worker folder, and for primaries that are in the test itself.
#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../../include/cohort/ipc/peer.hpp"
#include "../../include/cohort/worker/protocol.hpp"
#include "../../include/cohort/worker/run_worker.hpp"
#include "line_server.hpp"
#include "verb.hpp"

namespace cohort::test::worker_verbs {
namespace {

asio::awaitable<void> fail_with(std::string why) {
  co_await wait_for(std::chrono::milliseconds(1));
  throw std::runtime_error(why);
}

/// Answers each datagram with the slot and the pid, until the worker drains.
asio::awaitable<void> serve_packets(asio::ip::udp::socket socket, worker& self) {
  socket.non_blocking(true);
  for (;;) {
    const bool more = co_await self.readable(socket);
    if (!more) break;
    char buffer[64];
    asio::ip::udp::endpoint from;
    detail::asio_error error;
    socket.receive_from(asio::buffer(buffer), from, 0, error);
    if (error) continue;  // another worker has taken it
    const std::string text = std::to_string(self.slot()) + " " + std::to_string(::getpid());
    socket.send_to(asio::buffer(text), from, 0, error);
  }
}

// `title=TEXT`, `drain=MS`, `grace=MS`, `descriptors=N`, `connections=N`, `set-up=MS`, `set-up-fails=1`,
// `tear-down-fails=1`, `broken-by=PATH` (ends with 9 if there is such a file)
worker_options options_from(const verb::arguments& arguments) {
  worker_options options;
  options.idle_grace = std::chrono::milliseconds(20);
  options.serve_datagrams = &serve_packets;
  for (const auto& each : arguments) {
    const auto equals = each.find('=');
    const std::string key = each.substr(0, equals);
    if (key == "broken-by") {
      if (::access(each.c_str() + equals + 1, F_OK) == 0) std::_Exit(9);
      continue;
    }
    if (key == "title") {
      options.title = each.substr(equals + 1);
      continue;
    }
    const long value = std::stol(each.substr(equals + 1));
    if (key == "spread") options.drain_spread = std::chrono::milliseconds(value);
    if (key == "drain") options.drain_timeout = std::chrono::milliseconds(value);
    if (key == "grace") options.idle_grace = std::chrono::milliseconds(value);
    if (key == "connections") options.max_connections = static_cast<std::size_t>(value);
    if (key == "set-up") options.set_up = [value](worker&) { return wait_for(std::chrono::milliseconds(value)); };
    if (key == "set-up-fails") options.set_up = [](worker&) { return fail_with("no database"); };
    if (key == "tear-down-fails") options.tear_down = [](worker&) { return fail_with("not torn down"); };
    if (key == "descriptors") {
      const rlimit limit{static_cast<rlim_t>(value), static_cast<rlim_t>(value)};
      ::setrlimit(RLIMIT_NOFILE, &limit);
    }
  }
  return options;
}

const verb worker_verb("worker", [](const verb::arguments& arguments) {
  return run_worker(&serve_lines, options_from(arguments));
});

// Throws where nobody awaits it, as a completion handler of the user's own may.
asio::awaitable<void> throw_beside(asio::ip::tcp::socket socket, worker& self) {
  asio::post(self.get_executor(), [] { throw std::runtime_error("thrown beside"); });
  co_await serve_lines(std::move(socket), self);
}

const verb throwing_beside("worker-throwing-beside", [](const verb::arguments& arguments) {
  return run_worker(&throw_beside, options_from(arguments));
});

// Never says that it is ready.
const verb mute("worker-mute", [](const verb::arguments&) -> int {
  for (;;) ::pause();
});

// Says that it is ready, and ends.
const verb short_lived("worker-short-lived", [](const verb::arguments& arguments) -> int {
  asio::io_context context;
  auto to_parent = parent<worker_protocol>(context.get_executor());
  to_parent.post(worker_protocol::ready());
  context.run();
  std::_Exit(arguments.empty() ? 5 : std::stoi(arguments.front()));
});

// Says that it is ready, closes its channel, and lives on.
const verb silent("worker-silent", [](const verb::arguments&) -> int {
  {
    asio::io_context context;
    auto to_parent = parent<worker_protocol>(context.get_executor());
    to_parent.post(worker_protocol::ready());
    context.run();
  }
  for (;;) ::pause();
});

// Says that it is ready, and lives on when it should end: its channel stays open, and only SIGKILL ends it.
const verb undying("worker-undying", [](const verb::arguments&) -> int {
  ::signal(SIGTERM, SIG_IGN);
  asio::io_context context;
  auto to_parent = parent<worker_protocol>(context.get_executor());
  to_parent.post(worker_protocol::ready());
  context.run();
  for (;;) ::pause();
});

}  // namespace
}  // namespace cohort::test::worker_verbs
