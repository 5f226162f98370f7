// SPDX-License-Identifier: BSL-1.0
// serve() as a program: the primary is a process of its own.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../include/cohort/cluster/serve.hpp"
#include "../worker/client.hpp"
#include "server.hpp"

namespace cohort::test::serve_test {
namespace {

ASYNC_TEST("serve makes one program primary and workers, with the same arguments") {
  auto s = co_await server::ready("", "an argument with spaces", "grace=20");
  const auto answer = co_await ask_once(s->at(), "pid");
  const auto pid = std::stoi(answer);
  const auto ready = s->pids(kind::ready);
  CHECK(std::find(ready.begin(), ready.end(), pid) != ready.end());
  CHECK(pid != s->primary.pid());
  const auto arguments_of = [](pid_t process) {
    std::ifstream file("/proc/" + std::to_string(process) + "/cmdline", std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  CHECK(arguments_of(pid) == arguments_of(s->primary.pid()));
  CHECK(arguments_of(pid).size() > 40);
  s->primary.signal(SIGTERM);
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("SIGTERM and SIGINT end a server when the last request is answered, and its port is free then") {
  for (const auto* how : {"distribution=round_robin", "distribution=shared", "distribution=reuse_port"}) {
    for (const int signal : {SIGTERM, SIGINT}) {
      auto s = co_await server::ready(how);
      auto slow = co_await client::connect(s->at());
      const auto begun = co_await slow.ask("hold");
      CHECK(begun == "holding");
      s->primary.signal(signal);
      co_await s->until(kind::draining, 2);
      const auto answer = co_await slow.ask("go on");
      CHECK(answer == "hold done");
      const auto status = co_await s->ended();
      CHECK(status == exit_status::exited(0));
      CHECK(s->count(kind::exited) == 2);
      auto at = s->at();
      open_listener(at, listen_settings());
    }
  }
}

ASYNC_TEST("a second signal ends a server at once") {
  const std::vector<std::pair<int, int>> pairs = {{SIGTERM, SIGTERM}, {SIGTERM, SIGINT}, {0, SIGQUIT}};
  for (const auto& [first, second] : pairs) {
    auto s = co_await server::ready();
    auto slow = co_await client::connect(s->at());
    slow.say("slow 60000");
    const auto other = co_await ask_once(s->at(), "echo x");
    CHECK(other == "x");
    if (first != 0) {
      s->primary.signal(first);
      co_await s->until(kind::draining, 2);
      co_await s->until(kind::exited);  // the idle one goes, and the busy one stays
      CHECK(s->count(kind::exited) == 1);
    }
    if (first != 0) co_await sleep(1s);  // within a second it would be the same wish
    s->primary.signal(second);
    const auto cut = co_await slow.line();
    CHECK((cut == client::closed || cut == client::reset));
    const auto status = co_await s->ended();
    CHECK(status == exit_status::exited(1));
    CHECK(s->count(kind::exited) == 2);
  }
}

ASYNC_TEST("SIGTERM to all processes at once is one stop, in whatever order it reaches them") {
  for (int run = 0; run < 4; ++run) {
    auto s = co_await server::ready();
    auto slow = co_await client::connect(s->at());
    const auto begun = co_await slow.ask("hold");
    CHECK(begun == "holding");
    if (run % 2 == 0) s->primary.signal(SIGTERM);
    if (run >= 2) co_await s->until(run % 2 == 0 ? kind::draining : kind::ready);
    for (const auto pid : s->pids(kind::ready)) {
      if (std::find(s->pids(kind::exited).begin(), s->pids(kind::exited).end(), pid) == s->pids(kind::exited).end()) {
        ::kill(pid, SIGTERM);
      }
    }
    if (run % 2 == 1) s->primary.signal(SIGTERM);
    co_await s->until(kind::draining, 2);
    const auto answer = co_await slow.ask("go on");
    CHECK(answer == "hold done");
    const auto status = co_await s->ended();
    CHECK(status == exit_status::exited(0));
  }
}

ASYNC_TEST("when the primary is killed its workers answer what they have, and end") {
  for (const auto* how : {"distribution=round_robin", "distribution=shared", "distribution=reuse_port"}) {
    const subreaper adopts;
    auto s = co_await server::ready(how);
    auto slow = co_await client::connect(s->at());
    slow.say("slow 150");
    const auto other = co_await ask_once(s->at(), "echo x");
    CHECK(other == "x");
    const auto workers = s->pids(kind::ready);
    s->primary.signal(SIGKILL);
    const auto answer = co_await slow.line();
    CHECK(answer == "slow done");
    const auto status = co_await s->ended();
    CHECK(status == exit_status::killed(SIGKILL));
    for (const auto pid : workers) {
      int result = 0;
      const bool gone = co_await eventually([&] { return ::waitpid(pid, &result, WNOHANG) == pid; });
      CHECK(gone);
      CHECK(WIFEXITED(result));
      CHECK(WEXITSTATUS(result) == 110);
    }
  }
}

ASYNC_TEST("when the primary is killed busy workers end at the deadline") {
  const subreaper adopts;
  auto s = co_await server::ready("drain=100");
  auto slow = co_await client::connect(s->at());
  slow.say("slow 60000");
  auto stubborn = co_await client::connect(s->at());
  stubborn.say("stubborn 60000");
  const auto other = co_await ask_once(s->at(), "echo x");
  CHECK(other == "x");
  const auto workers = s->pids(kind::ready);
  s->primary.signal(SIGKILL);
  for (const auto pid : workers) {
    int result = 0;
    const bool gone = co_await eventually([&] { return ::waitpid(pid, &result, WNOHANG) == pid; });
    CHECK(gone);
    CHECK(WEXITSTATUS(result) == 110);
  }
  const auto status = co_await s->ended();
  CHECK(status == exit_status::killed(SIGKILL));
}

ASYNC_TEST("an address that cannot be served is said on stderr, the status is 1, and no worker is started") {
  auto at = parse_endpoint("127.0.0.1:0");
  const descriptor taken = open_listener(at, listen_settings());
  const std::vector<std::pair<std::string, std::string>> cases = {
      {to_string(at), "Address already in use"},
      {"127.0.0.1", "want ADDRESS:PORT, "},
      {"localhost:http", "want ADDRESS:PORT, "},
      {"127.0.0.1:70000", "want ADDRESS:PORT, "},
  };
  for (const auto* how : {"distribution=round_robin", "distribution=shared", "distribution=reuse_port"}) {
    for (const auto& [address, what] : cases) {
      auto program = helper("serve", "listen=127.0.0.1:0", "listen=" + address, how);
      auto s = co_await server::start(program.err(stdio::pipe));
      const auto said = co_await s->primary.err().read_all();
      CHECK(said.starts_with("listen " + address + ": " + what));
      const auto status = co_await s->ended();
      CHECK(status == exit_status::exited(1));
      CHECK(s->events.empty());
    }
  }
}

ASYNC_TEST("a server whose workers die at their start gives up, with status 1") {
  auto s = co_await server::start(helper("serve", "listen=127.0.0.1:0", "workers=3", "die=4", "restarts=5"));
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(1));
  CHECK(s->count(kind::started) == 8);
  CHECK(s->count(kind::exited) == 8);
  CHECK(s->count(kind::gave_up) == 1);
}

ASYNC_TEST("events go to stderr, if nobody takes them") {
  auto program = helper("serve", "listen=127.0.0.1:0", "workers=1", "events=default");
  auto s = co_await server::start(program.err(stdio::pipe));
  std::vector<std::string> lines;
  for (int i = 0; i < 3; ++i) {
    const auto line = co_await s->primary.err().read_line();
    REQUIRE(line);
    lines.push_back(*line);
  }
  CHECK(lines[0].starts_with("listening on 127.0.0.1:"));
  CHECK(lines[1].starts_with("worker 1 started, pid "));
  CHECK(lines[2].starts_with("worker 1 ready, pid "));
  s->primary.signal(SIGTERM);
  const auto rest = co_await s->primary.err().read_all();
  CHECK(rest.starts_with("stopping: SIGTERM\nworker 1 draining, pid "));
  CHECK(rest.ends_with(": status 0\n"));
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("a server outlives the reader of its log") {
  auto program = helper("serve", "listen=127.0.0.1:0", "workers=1", "events=default");
  auto s = co_await server::start(program.err(stdio::pipe));
  const auto first = co_await s->primary.err().read_line();
  REQUIRE(first);
  const auto at = parse_endpoint(first->substr(first->rfind(' ') + 1));
  s->primary.err().close();
  for (int i = 0; i < 3; ++i) {
    auto one = co_await client::connect(at);
    const auto pid = co_await one.ask("pid");
    const auto end = co_await ask_once(at, "abort");  // which makes events
    CHECK((end == client::closed || end == client::reset));
  }
  const auto answer = co_await ask_once(at, "echo alive");
  CHECK(answer == "alive");
  s->primary.signal(SIGTERM);
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("an exception from on_event is said on stderr, and the server goes on") {
  auto program = helper("serve", "listen=127.0.0.1:0", "workers=2", "events=throw");
  auto s = co_await server::start(program.err(stdio::pipe));
  co_await s->until(kind::ready, 2);
  const auto left = co_await ask_once(s->at(), "drain");
  CHECK(left == "drain done");
  co_await s->until(kind::ready, 3);
  const auto answer = co_await ask_once(s->at(), "echo on");
  CHECK(answer == "on");
  s->primary.signal(SIGTERM);
  const auto said = co_await s->primary.err().read_all();
  CHECK(said.starts_with("on_event has thrown: no more events, please; at: worker "));
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("a server goes on with its own program when the file is replaced or removed") {
  const auto directory = std::filesystem::temp_directory_path() / ("cohort-" + std::to_string(::getpid()));
  std::filesystem::create_directory(directory);
  const auto file = directory / "server", other = directory / "other";
  std::filesystem::copy_file(helper_path(), file);
  auto s = co_await server::start(command(file, "serve", "listen=127.0.0.1:0", "workers=1"));
  co_await s->until(kind::ready);
  std::filesystem::copy_file("/bin/false", other);
  std::filesystem::rename(other, file);
  for (std::size_t ready = 2; ready <= 3; ++ready) {
    const auto end = co_await ask_once(s->at(), "exit 9");
    CHECK((end == client::closed || end == client::reset));
    co_await s->until(kind::ready, ready);
    std::filesystem::remove(file);
  }
  std::filesystem::remove_all(directory);
  s->primary.signal(SIGTERM);
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("exit statuses are known although the starter ignores SIGCHLD") {
  auto s =
      co_await server::start(helper("serve", "listen=127.0.0.1:0", "workers=1", "ignore=" + std::to_string(SIGCHLD)));
  co_await s->until(kind::ready);
  const auto answer = co_await ask_once(s->at(), "leave");
  CHECK(answer == "leave done");
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(1));
  CHECK(s->count(kind::not_restarted) == 1);
}

ASYNC_TEST("a server with a small descriptor table serves everybody, though not at once") {
  if (sanitized) co_return;  // UBSan's check of virtual calls needs descriptors itself
  for (const auto* how : {"distribution=round_robin", "distribution=shared", "distribution=reuse_port"}) {
    auto s = co_await server::ready(how, "descriptors=32");
    std::vector<client> clients;
    for (int i = 0; i < 150; ++i) {
      clients.push_back(co_await client::connect(s->at()));
      clients.back().say("slow 10");
    }
    const auto victim = s->pids(kind::ready).front();
    ::kill(victim, SIGTERM);
    std::size_t served = 0;
    const auto take = [&](client& from) -> asio::awaitable<void> {
      const auto answer = co_await from.line();
      CHECK(answer == "slow done");
      from.close();  // before that one's turn, which may need the room
      ++served;
    };
    const auto executor = co_await asio::this_coro::executor;
    for (auto& each : clients) asio::co_spawn(executor, take(each), asio::detached);
    const bool all = co_await eventually([&] { return served == clients.size(); });
    CHECK_MESSAGE(all, "only ", served, " are served");
    s->primary.signal(SIGTERM);
    const auto status = co_await s->ended();
    CHECK(status == exit_status::exited(0));
  }
}

ASYNC_TEST("connections that have lost their workers leave the primary the descriptors for new ones") {
  auto s = co_await server::ready("descriptors=64", "events=print");
  // More wait than the primary has room for, and while it sees none of it, nobody is left who could take them.
  s->primary.signal(SIGSTOP);
  std::vector<client> waiting;
  for (int i = 0; i < 150; ++i) {
    waiting.push_back(co_await client::connect(s->at()));
    waiting.back().say("echo here");
  }
  for (const pid_t each : s->pids(kind::ready)) ::kill(each, SIGKILL);
  s->primary.signal(SIGCONT);
  for (auto& each : waiting) {
    const auto answer = co_await each.line();
    CHECK(answer == "here");
    each.close();
  }
  CHECK(s->count(kind::failed) == 0);
  s->primary.signal(SIGTERM);
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("a worker of a server that is served by 78 alone ends it with 1") {
  auto s = co_await server::start(helper("serve", "listen=127.0.0.1:0", "workers=1"));
  co_await s->until(kind::ready);
  const auto answer = co_await ask_once(s->at(), "leave");
  CHECK(answer == "leave done");
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(1));
  CHECK(s->count(kind::not_restarted) == 1);
  CHECK(s->count(kind::gave_up) == 1);
  CHECK(s->count(kind::started) == 1);
}

}  // namespace
}  // namespace cohort::test::serve_test
