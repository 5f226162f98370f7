// SPDX-License-Identifier: BSL-1.0
// serve() under a service manager, and as the first process of a container.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>

#include "../../../include/cohort/cluster/cluster.hpp"
#include "../../../include/cohort/net/endpoint.hpp"
#include "../../../include/cohort/net/unix_listener.hpp"
#include "../../process/children.hpp"
#include "../../process/directory.hpp"
#include "../../worker/client.hpp"
#include "manager.hpp"

namespace cohort::test::service_test {
namespace {

/// A server whose primary writes its events to stderr (see the verb `service`).
class service : public std::enable_shared_from_this<service> {
 public:
  static asio::awaitable<std::shared_ptr<service>> start(command program) {
    auto self = std::make_shared<service>();
    self->primary = co_await spawn(std::move(program.err(stdio::pipe)));
    asio::co_spawn(co_await asio::this_coro::executor, read(self), asio::detached);
    co_return self;
  }

  asio::awaitable<void> until(std::string start_of_line, std::ptrdiff_t times = 1) {
    const auto count = [&] {
      return std::count_if(lines.begin(), lines.end(),
                           [&](const auto& each) { return each.starts_with(start_of_line); });
    };
    const bool seen = co_await eventually([&] { return count() >= times; }, patience - 1s);
    if (seen) co_return;
    std::string all;
    for (const auto& each : lines) all += each + "\n";
    FAIL("never said: ", start_of_line, "; but:\n", all);
  }

  /// What stands after this text in the first line that begins with it.
  std::string after(const std::string& text) const {
    const auto at = std::find_if(lines.begin(), lines.end(), [&](const auto& each) { return each.starts_with(text); });
    return at != lines.end() ? at->substr(text.size()) : std::string();
  }

  asio::awaitable<exit_status> stop() {
    primary.signal(SIGTERM);
    co_return co_await ended();
  }

  asio::awaitable<exit_status> ended() {
    const auto status = co_await primary.wait();
    const bool all = co_await eventually([this] { return end; });
    CHECK_MESSAGE(all, "somebody has outlived the primary");
    co_return status;
  }

  child primary;
  std::vector<std::string> lines;
  bool end = false;

 private:
  static asio::awaitable<void> read(std::shared_ptr<service> self) {
    while (auto line = co_await self->primary.err().read_line()) self->lines.push_back(*line);
    self->end = true;
  }
};

bool is_gone(pid_t pid) { return ::kill(pid, 0) == -1 && errno == ESRCH; }

/// As /proc shows it: 'T' for a process that is stopped, 'Z' for one that has ended and is not reaped.
char state_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  const auto name_end = line.rfind(')');
  return name_end == line.npos ? '-' : line[name_end + 2];
}

ASYNC_TEST("a service manager hears when a server is ready, how it does, and that it stops") {
  notify_socket manager;
  auto program = helper("service", "listen=127.0.0.1:0", "workers=2", "print=NOTIFY_SOCKET", "print=WATCHDOG_USEC");
  program.env("NOTIFY_SOCKET", manager.name()).env("WATCHDOG_USEC", "60000000").out(stdio::pipe);
  auto s = co_await service::start(std::move(program));
  co_await manager.until("READY=1");
  co_await manager.until("STATUS=2 of 2 workers serve");
  CHECK(manager.count("READY=1") == 1);
  CHECK(manager.count("WATCHDOG=1") == 1);
  CHECK(manager.count("STOPPING=1") == 0);

  const auto at = parse_endpoint(s->after("listening on "));
  const auto cut = co_await ask_once(at, "exit 9");
  CHECK((cut == client::closed || cut == client::reset));
  co_await s->until("worker ", 5);  // two started and ready, one exited
  co_await manager.until("STATUS=1 of 2 workers serve");
  co_await s->until("worker ", 7);
  const auto status = co_await s->stop();
  CHECK(status == exit_status::exited(0));
  co_await manager.until("STATUS=stopping: SIGTERM");
  CHECK(manager.count("STOPPING=1") == 1);
  CHECK(manager.count("READY=1") == 1);
  CHECK(manager.heard.back() == "STATUS=stopping: SIGTERM");

  // and the workers know nothing of it
  for (auto line = co_await s->primary.out().read_line(); line; line = co_await s->primary.out().read_line()) {
    CHECK(line->ends_with(" is not set"));
  }
}

ASYNC_TEST("a service manager with a watchdog hears of the primary all the time, its end included") {
  notify_socket manager;
  auto program = helper("service", "listen=127.0.0.1:0", "workers=1");
  program.env("NOTIFY_SOCKET", manager.name()).env("WATCHDOG_USEC", "40000");
  auto s = co_await service::start(std::move(program));
  co_await manager.until("READY=1");
  auto before = manager.count("WATCHDOG=1");
  const bool alive = co_await eventually([&] { return manager.count("WATCHDOG=1") >= before + 5; });
  CHECK(alive);
  auto slow = co_await client::connect(parse_endpoint(s->after("listening on ")));
  const auto begun = co_await slow.ask("hold");
  CHECK(begun == "holding");
  s->primary.signal(SIGTERM);
  co_await manager.until("STOPPING=1");
  before = manager.count("WATCHDOG=1");
  const bool still = co_await eventually([&] { return manager.count("WATCHDOG=1") >= before + 3; });
  CHECK(still);
  const auto answer = co_await slow.ask("go on");
  CHECK(answer == "hold done");
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));

  // a primary that hangs is not heard of
  auto hung = helper("service", "listen=127.0.0.1:0", "workers=1");
  hung.env("NOTIFY_SOCKET", manager.name()).env("WATCHDOG_USEC", "40000");
  auto h = co_await service::start(std::move(hung));
  co_await h->until("worker 1 ready");
  h->primary.signal(SIGSTOP);
  const bool stopped = co_await eventually([&] { return state_of(h->primary.pid()) == 'T'; });
  CHECK(stopped);
  before = manager.count("WATCHDOG=1");
  co_await sleep(100ms);  // in which it would be heard of five times
  CHECK(manager.count("WATCHDOG=1") == before);
  h->primary.signal(SIGCONT);
  const bool back = co_await eventually([&] { return manager.count("WATCHDOG=1") > before; });
  CHECK(back);
  const auto last = co_await h->stop();
  CHECK(last == exit_status::exited(0));
}

ASYNC_TEST("a server is never ready if a worker is not, and says why it gives up") {
  notify_socket manager;
  auto program = helper("serve", "listen=127.0.0.1:0", "workers=2", "die=4", "restarts=2", "events=default");
  auto s = co_await service::start(std::move(program.env("NOTIFY_SOCKET", manager.name())));
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(1));
  co_await manager.until("STOPPING=1");
  CHECK(manager.count("READY=1") == 0);
  const auto why = std::count_if(manager.heard.begin(), manager.heard.end(),
                                 [](const auto& each) { return each.starts_with("STATUS=gave up: "); });
  CHECK(why == 1);
  CHECK(manager.heard.at(manager.heard.size() - 2) == "STOPPING=1");
  CHECK(manager.heard.back().starts_with("EXTEND_TIMEOUT_USEC="));
}

ASYNC_TEST("a server goes on without a manager that is gone, and says so once") {
  notify_socket manager;
  auto program = helper("service", "listen=127.0.0.1:0", "workers=2");
  program.env("NOTIFY_SOCKET", manager.name()).env("WATCHDOG_USEC", "20000");
  manager.close();
  auto s = co_await service::start(std::move(program));
  co_await s->until("worker 1 ready");
  co_await s->until("worker 2 ready");
  const auto answer = co_await ask_once(parse_endpoint(s->after("listening on ")), "echo alone");
  CHECK(answer == "alone");
  const auto status = co_await s->stop();
  CHECK(status == exit_status::exited(0));
  CHECK(std::count_if(s->lines.begin(), s->lines.end(),
                      [](const auto& each) { return each.starts_with("service manager: "); }) == 1);
  CHECK(s->after("service manager: ") == "send WATCHDOG=1: Connection refused");
}

ASYNC_TEST("a server that cannot be what it is asked for says so, and exits with 1") {
  const std::vector<std::pair<command, std::string>> cases = {
      {helper("service", "listen=127.0.0.1:0").env("NOTIFY_SOCKET", "here"),
       "service manager: NOTIFY_SOCKET=here: invalid option"},
      {helper("service", "listen=fd:http"), "listen fd:http: no such socket was inherited: invalid option"},
      {helper("service", "listen=fd:http", "LISTEN_FDS=x", "pid=own"),
       "inherited sockets: LISTEN_FDS=x: invalid option"},
      {helper("service", "listen=unix:@cohort-test", "handler=tcp"),
       "listen unix:@cohort-test: the handler takes no local socket: invalid option"},
      {helper("service", "listen=127.0.0.1:0", "handler=local"),
       "listen 127.0.0.1:0: the handler takes no tcp socket: invalid option"},
  };
  for (const auto& [program, text] : cases) {
    auto s = co_await service::start(program);
    const auto status = co_await s->ended();
    CHECK(status == exit_status::exited(1));
    CHECK(s->lines == std::vector<std::string>{text});
  }
}

/// Listeners of the test that a server inherits.
std::vector<descriptor> listeners(asio::ip::tcp::endpoint& at, unsigned count) {
  at = parse_endpoint("127.0.0.1:0");
  listen_settings settings;
  settings.reuse_port = count > 1;
  std::vector<descriptor> result;
  while (result.size() < count) result.push_back(open_listener(at, settings));
  return result;
}

ASYNC_TEST("all inherited sockets of one name are served, those of one address as seats of reuse_port") {
  for (const auto* how : {"distribution=round_robin", "distribution=shared", "distribution=reuse_port"}) {
    asio::ip::tcp::endpoint first, second;
    const auto a = listeners(first, 2), b = listeners(second, 2);
    auto program = helper("service", "listen=fd:http", "workers=2", how, "pid=own", "LISTEN_FDS=4",
                          "LISTEN_FDNAMES=http:http:http:http");
    program.fd(3, stdio::borrow(a[0].get())).fd(4, stdio::borrow(b[0].get()));
    program.fd(5, stdio::borrow(a[1].get())).fd(6, stdio::borrow(b[1].get()));
    auto s = co_await service::start(std::move(program));
    co_await s->until("worker 1 ready");
    co_await s->until("worker 2 ready");
    CHECK(std::count(s->lines.begin(), s->lines.end(), "listening on " + to_string(first)) ==
          (how == std::string("distribution=reuse_port") ? 1 : 2));
    for (int i = 0; i < 40; ++i) {
      const auto answer = co_await ask_once(i % 2 == 0 ? first : second, "echo x");
      CHECK(answer == "x");
    }
    const auto status = co_await s->stop();
    CHECK(status == exit_status::exited(0));
    // Nothing was done to them: who comes now waits for the next server.
    for (int i = 0; i < 8; ++i) auto waits = co_await client::connect(i % 2 == 0 ? first : second);
  }
}

ASYNC_TEST("inherited sockets that reuse_port cannot seat, and those that nobody serves, are errors") {
  asio::ip::tcp::endpoint at, other;
  const auto a = listeners(at, 2), b = listeners(other, 1);
  const auto refused = [&](command program) -> asio::awaitable<std::string> {
    program.fd(3, stdio::borrow(a[0].get())).fd(4, stdio::borrow(a[1].get())).fd(5, stdio::borrow(b[0].get()));
    auto s = co_await service::start(std::move(program));
    const auto status = co_await s->ended();
    CHECK(status == exit_status::exited(1));
    co_return s->lines.empty() ? std::string() : s->lines.front();
  };
  auto text = co_await refused(helper("service", "listen=fd:http", "workers=3", "distribution=reuse_port", "pid=own",
                                      "LISTEN_FDS=2", "LISTEN_FDNAMES=http:http"));
  CHECK(text == "listen fd:http: 2 inherited for " + to_string(at) +
                    ", and reuse_port wants one for each of 3 workers: invalid option");
  text = co_await refused(
      helper("service", "listen=fd:http", "workers=1", "pid=own", "LISTEN_FDS=3", "LISTEN_FDNAMES=http:http:metrics"));
  CHECK(text == "listen: nobody listens on the inherited fd 5 (metrics): invalid option");
  text = co_await refused(helper("service", "listen=fd:http", "listen=fd:4", "workers=1", "pid=own", "LISTEN_FDS=2",
                                 "LISTEN_FDNAMES=http:http"));
  CHECK(text == "listen fd:4: listed twice: invalid option");
}

bool is_installed(const std::string& program) { return ::access(program.c_str(), X_OK) == 0; }

ASYNC_TEST("systemd-socket-activate starts a server with the first connection, which is answered") {
  const std::string activate = "/usr/bin/systemd-socket-activate";
  if (!is_installed(activate)) {
    MESSAGE("skipped: there is no " << activate);
    co_return;
  }
  const directory scratch;
  const auto path = scratch / "app.sock";
  for (const auto* how : {"distribution=round_robin", "distribution=shared"}) {
    command program(activate, "--listen=" + path, "--fdname=http", helper_path(), "service", "listen=fd:http",
                    "workers=2", how);
    auto s = co_await service::start(std::move(program));
    const bool there = co_await eventually([&] { return ::access(path.c_str(), F_OK) == 0; });
    CHECK(there);
    const auto where = parse_unix_endpoint("unix:" + path);
    std::string answer = "(refused)";
    while (answer == "(refused)") answer = co_await ask_once(where, "echo activated");
    CHECK(answer == "activated");
    co_await s->until("listening on unix:" + path);
    const auto status = co_await s->stop();
    CHECK(status == exit_status::exited(0));
    CHECK(::unlink(path.c_str()) == 0);
  }
}

ASYNC_TEST("systemd-socket-activate passes several ports by their names") {
  const std::string activate = "/usr/bin/systemd-socket-activate";
  if (!is_installed(activate)) {
    MESSAGE("skipped: there is no " << activate);
    co_return;
  }
  asio::ip::tcp::endpoint first, second;
  {
    const auto a = listeners(first, 1), b = listeners(second, 1);  // two ports that are free in a moment
  }
  command program(activate, "--listen=" + to_string(first), "--listen=" + to_string(second), "--fdname=http:admin",
                  helper_path(), "service", "listen=fd:admin", "listen=fd:3", "workers=1");
  auto s = co_await service::start(std::move(program));
  std::string answer = "(refused)";
  while (answer == "(refused)") answer = co_await ask_once(second, "echo named");
  CHECK(answer == "named");
  answer = co_await ask_once(first, "echo numbered");
  CHECK(answer == "numbered");
  co_await s->until("listening on " + to_string(second));
  const auto status = co_await s->stop();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("a server reaps the orphans that it adopts, and its workers' statuses stay theirs") {
  for (const auto* reap : {"reap=1", "reap=0"}) {
    auto s = co_await service::start(helper("service", "listen=127.0.0.1:0", "workers=2", "subreaper", reap));
    co_await s->until("worker 1 ready");
    co_await s->until("worker 2 ready");
    const auto at = parse_endpoint(s->after("listening on "));
    std::vector<pid_t> orphans;
    for (int i = 0; i < 3; ++i) {
      auto one = co_await client::connect(at);
      const auto pid = co_await one.ask("fork 50");
      orphans.push_back(std::stoi(pid));
      const auto end = co_await one.ask("exit 9");
      CHECK((end == client::closed || end == client::reset));
    }
    co_await s->until("worker 1 exited", 1);
    const auto all_gone = [&] { return std::all_of(orphans.begin(), orphans.end(), is_gone); };
    if (reap == std::string("reap=1")) {
      const bool gone = co_await eventually(all_gone);
      CHECK(gone);
    } else {
      const auto all_ended = [&] {
        return std::all_of(orphans.begin(), orphans.end(), [](pid_t each) { return state_of(each) == 'Z'; });
      };
      const bool ended = co_await eventually(all_ended);
      CHECK(ended);
      // One more process ends, and the server has reaped what it reaps when it says so.
      const auto end = co_await ask_once(at, "exit 8");
      CHECK((end == client::closed || end == client::reset));
      const bool reaped = co_await eventually([&] {
        return std::any_of(s->lines.begin(), s->lines.end(),
                           [](const auto& each) { return each.ends_with(": status 8"); });
      });
      CHECK(reaped);
      CHECK(all_ended());
    }
    const auto status = co_await s->stop();
    CHECK(status == exit_status::exited(0));
    int nines = 0;
    for (const auto& each : s->lines) {
      if (each.find(" exited, pid ") != std::string::npos && each.ends_with(": status 9")) ++nines;
    }
    CHECK(nines == 3);
  }
}

ASYNC_TEST("a server that is process number 1 reaps without being told to") {
  // A namespace of its own, in which the server is the first process and so the parent of all orphans (unshare(1)).
  const auto in_namespace = [](auto... words) {
    return command("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", words...);
  };
  auto possible = co_await spawn(in_namespace("true").err(stdio::null));
  const auto tried = co_await possible.wait();
  if (!tried.success()) {
    MESSAGE("skipped: no namespaces for this user");
    co_return;
  }
  auto s = co_await service::start(
      in_namespace(helper_path(), "service", "listen=127.0.0.1:0", "workers=2", "print=NOTIFY_SOCKET")
          .out(stdio::null));
  co_await s->until("worker 1 ready");
  co_await s->until("worker 2 ready");
  const auto at = parse_endpoint(s->after("listening on "));
  for (int i = 0; i < 3; ++i) {
    auto one = co_await client::connect(at);
    const auto orphan = co_await one.ask("fork 1");
    const auto end = co_await one.ask("exit 9");
    CHECK((end == client::closed || end == client::reset));
    // Its number is one of the namespace: a worker there can look.
    std::string seen;
    for (int look = 0; look < 500 && seen != "gone"; ++look) {
      auto other = co_await client::connect(at);
      seen = co_await other.ask("process " + orphan);
      if (seen != "gone") co_await sleep(10ms);
    }
    CHECK(seen == "gone");
  }
  // The signal is for the server, whose number outside is that of unshare's only child.
  const auto first = co_await output_of(command("pgrep", "-P", std::to_string(s->primary.pid())));
  ::kill(std::stoi(first), SIGTERM);
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
  CHECK(std::count_if(s->lines.begin(), s->lines.end(),
                      [](const auto& each) { return each.ends_with(": status 9"); }) == 3);
}

}  // namespace
}  // namespace cohort::test::service_test
