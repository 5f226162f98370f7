// SPDX-License-Identifier: BSL-1.0
// What those who operate a server do to it, and what happens to it by itself.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../include/cohort/process/pid_file.hpp"
#include "../process/directory.hpp"
#include "../support/fault.hpp"
#include "../worker/client.hpp"
#include "running.hpp"
#include "server.hpp"
#include "switch_file.hpp"

namespace cohort::test::operations_test {
namespace {

const std::string& path_of(const switch_file& file, std::string& buffer) {
  return buffer = file.argument().substr(file.argument().find('=') + 1);
}

std::string file_of(pid_t process) {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/" + std::to_string(process) + "/exe", error).string();
}

ASYNC_TEST("signals that are the primary's business reach all processes and end no worker") {
  auto s = co_await server::ready();
  auto busy = co_await client::connect(s->at());
  const auto begun = co_await busy.ask("hold");
  CHECK(begun == "holding");
  for (const int signal : {SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU}) {
    for (const pid_t pid : s->pids(kind::ready)) ::kill(pid, signal);
  }
  const auto answer = co_await busy.ask("go on");
  CHECK(answer == "hold done");
  for (int i = 0; i < 2; ++i) {  // both, in turn
    const auto other = co_await ask_once(s->at(), "echo on");
    CHECK(other == "on");
  }
  CHECK(s->count(kind::exited) == 0);
  s->primary.signal(SIGTERM);
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
  CHECK(s->count(kind::started) == 2);
}

ASYNC_TEST("signals that reach a worker before it is set up do not end it either") {
  switch_file hold;
  std::string path;
  hold.on();
  auto s = co_await server::start(helper("serve", "listen=127.0.0.1:0", "workers=1", "hold-by=" + path_of(hold, path)));
  co_await s->until(kind::started);
  for (const int signal : {SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2}) ::kill(s->pids(kind::started).front(), signal);
  hold.off();
  co_await s->until(kind::ready);
  CHECK(s->count(kind::exited) == 0);
  s->primary.signal(SIGTERM);
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("one wish to stop that comes twice is one wish") {
  auto s = co_await server::ready();
  auto slow = co_await client::connect(s->at());
  const auto begun = co_await slow.ask("hold");
  CHECK(begun == "holding");
  s->primary.signal(SIGINT);
  co_await s->until(kind::stopping);
  s->primary.signal(SIGTERM);
  s->primary.signal(SIGINT);
  co_await s->until(kind::draining, 2);
  const auto answer = co_await slow.ask("go on");
  CHECK(answer == "hold done");
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
}

asio::awaitable<void> until_in_service(std::shared_ptr<running> c, std::string wanted) {
  for (std::string found; found != wanted; co_await yield(1)) found = co_await ask_once(c->at(), "in-service");
}

ASYNC_TEST(
    "a cluster that is told to stop is not ready any more at once, and serves until its lame duck time is over") {
  for (const auto how : {distribution::round_robin, distribution::reuse_port}) {
    auto options = options_for(how, 2);
    options.lame_duck = 1h;
    auto c = co_await running::ready(options);
    co_await c->primary.all_ready();
    CHECK(c->primary.stats().in_service);
    co_await until_in_service(c, "yes");
    c->primary.stop("the test");
    CHECK(c->primary.is_stopping());
    CHECK(c->primary.is_lame_duck());
    CHECK(c->primary.stats().stopping);
    CHECK_FALSE(c->primary.stats().in_service);
    co_await c->until(event_kind::stopping);
    co_await until_in_service(c, "no");
    CHECK(c->count(event_kind::draining) == 0);

    // It goes on as before: what dies is replaced, and its replacement knows.
    ::kill(c->pid(1), SIGKILL);
    co_await c->until(event_kind::ready, 3);
    for (int i = 0; i < 4; ++i) {
      const auto answer = co_await ask_once(c->at(), "in-service");
      CHECK(answer == "no");
    }
    const auto upgrade = co_await c->primary.upgrade();
    CHECK(upgrade.reason == "the cluster stops");

    c->primary.stop("again");
    CHECK_FALSE(c->primary.is_lame_duck());
    const int status = co_await c->ended();
    CHECK(status == 0);
    CHECK(c->count(event_kind::stopping) == 1);
  }
}

ASYNC_TEST("the drain begins by itself when the lame duck time is over, and at once where nothing has served") {
  auto options = options_for(distribution::round_robin, 1);
  options.lame_duck = 20ms;
  auto c = co_await running::ready(options);
  co_await c->primary.all_ready();
  int status = co_await c->stop();
  CHECK(status == 0);
  options.lame_duck = 1h;
  options.program = helper("silent");
  c = running::start(co_await asio::this_coro::executor, options);
  co_await c->until(event_kind::started);
  c->primary.stop("before it is ready");
  CHECK_FALSE(c->primary.is_lame_duck());
  c->primary.kill("the test ends");
  status = co_await c->ended();
}

ASYNC_TEST("a second signal cuts the lame duck time short") {
  auto s = co_await server::ready("lame-duck=3600000");
  s->primary.signal(SIGTERM);
  co_await s->until(kind::stopping);
  // Those that come within a second are the same wish.
  for (int i = 0; i < 500 && s->count(kind::draining) == 0; ++i) {
    s->primary.signal(SIGTERM);
    co_await sleep(20ms);
  }
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
  CHECK(s->count(kind::stopping) == 1);
}

ASYNC_TEST("what on_reopen throws is an event, and signals are handled as before") {
  auto s = co_await server::ready("reopen=throw");
  s->primary.signal(SIGUSR1);
  co_await s->until(kind::failed);
  CHECK(s->last(kind::failed).text == "primary failed: on_reopen: no such directory");
  s->primary.signal(SIGHUP);
  co_await s->until(kind::reloaded);
  s->primary.signal(SIGTERM);
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("real-time signals have names, and do what the options say") {
  auto s = co_await server::ready("stop-on=" + std::to_string(SIGRTMIN + 3));
  s->primary.signal(SIGRTMIN + 3);
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
  CHECK(s->last(kind::stopping).text == "stopping: SIGRTMIN+3");
}

ASYNC_TEST("a server that was started with its signals blocked hears them") {
  auto program = helper("serve", "listen=127.0.0.1:0", "workers=1");
  program.block_signal(SIGTERM).block_signal(SIGHUP);
  auto s = co_await server::start(std::move(program));
  co_await s->until(kind::ready);
  s->primary.signal(SIGHUP);
  co_await s->until(kind::reloaded);
  s->primary.signal(SIGTERM);
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("of many reloads that are asked for at once, one is under way and one follows it") {
  switch_file hold;
  std::string path;
  auto s = co_await server::ready("hold-by=" + path_of(hold, path));
  hold.on();
  s->primary.signal(SIGHUP);
  co_await s->until(kind::reloading);
  for (int i = 0; i < 100; ++i) {
    s->primary.signal(SIGHUP);
    if (i % 10 == 0) co_await yield(2);
  }
  s->primary.signal(SIGTTIN);  // is handled after them
  co_await s->until(kind::scaled);
  hold.off();
  co_await s->until(kind::reloaded, 2);
  s->primary.signal(SIGTERM);
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
  CHECK(s->count(kind::reloading) == 2);
}

ASYNC_TEST("a reload runs what the path by which the server was started leads to now, and says what that is") {
  const directory here;
  const std::string current = here / "current", first = here / "1", second = here / "2";
  for (const auto& each : {first, second}) {
    std::filesystem::create_directory(each);
    std::filesystem::copy_file(helper_path(), each + "/server");
  }
  std::filesystem::create_directory_symlink(first, current);
  auto program = command("current/server", "serve", "listen=127.0.0.1:0", "workers=1");
  auto s = co_await server::start(program.cwd(here.path()));
  co_await s->until(kind::ready);
  CHECK(file_of(s->pids(kind::ready).back()) == first + "/server");
  std::filesystem::remove(current);
  std::filesystem::create_directory_symlink(second, current);
  for (std::size_t times = 1; times <= 2; ++times) {
    s->primary.signal(SIGHUP);
    co_await s->until(kind::reloaded, times);
    CHECK(file_of(s->pids(kind::ready).back()) == second + "/server");
    CHECK(s->last(kind::reloaded).text.starts_with("reloaded " + second + "/server ("));
    std::filesystem::remove_all(first);  // the release that the primary still runs
  }
  s->primary.signal(SIGTERM);
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("workers of another user are replaced also when the program's file has been") {
  if (::geteuid() != 0) co_return;
  const directory here;
  std::filesystem::permissions(here.path(), std::filesystem::perms(0755));
  const std::string file = here / "server", other = here / "other";
  std::filesystem::copy_file(helper_path(), file);
  auto s = co_await server::start(command(file, "serve", "listen=127.0.0.1:0", "workers=1", "user=nobody"));
  co_await s->until(kind::ready);
  std::filesystem::copy_file("/bin/false", other);
  std::filesystem::rename(other, file);
  const auto end = co_await ask_once(s->at(), "exit 9");
  CHECK((end == client::closed || end == client::reset));
  co_await s->until(kind::ready, 2);
  CHECK(s->count(kind::failed) == 0);
  s->primary.signal(SIGTERM);
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("workers and agents run as the user that the options name, and the primary as its own" *
           doctest::skip(::geteuid() != 0)) {
  const auto user_of = [](pid_t process) {
    struct stat found = {};
    REQUIRE(::stat(("/proc/" + std::to_string(process)).c_str(), &found) == 0);
    return std::pair(found.st_uid, found.st_gid);
  };
  auto options = options_for(distribution::round_robin, 1);
  options.user = "65534";
  options.group = "1";
  auto c = co_await running::ready(options);
  CHECK(user_of(c->pid(1)) == std::pair<uid_t, gid_t>(65534, 1));
  co_await c->stop();
  options.user = "no-such-user";
  const auto refused = co_await refusal(options);
  CHECK(refused == "spawn: unknown user \"no-such-user\": invalid option");
}

ASYNC_TEST("the kernel is told to take a worker rather than the primary") {
  auto options = options_for(distribution::round_robin, 1);
  options.oom_score_adj = 700;
  auto c = co_await running::ready(options);
  std::string score;
  std::ifstream("/proc/" + std::to_string(c->pid(1)) + "/oom_score_adj") >> score;
  CHECK(score == "700");
  co_await c->stop();
  options.oom_score_adj = 1001;
  const auto refused = co_await refusal(options);
  CHECK(refused == "oom_score_adj 1001: want -1000 to 1000: invalid option");
}

ASYNC_TEST("a pid file keeps a second server from starting, and the new primary of an upgrade takes it over") {
  const subreaper adopts;
  const directory here;
  const std::string path = here / "server.pid";
  auto s = co_await server::ready("pid-file=" + path);
  CHECK(pid_file::owner(path) == s->primary.pid());
  auto second = helper("serve", "listen=127.0.0.1:0", "pid-file=" + path);
  auto other = co_await server::start(second.err(stdio::pipe));
  const auto said = co_await other->primary.err().read_all();
  CHECK(said == "pid file \"" + path + "\", pid " + std::to_string(s->primary.pid()) + ": already running\n");
  co_await other->ended();

  s->primary.signal(SIGUSR2);
  co_await s->until(kind::upgraded);
  const pid_t next = s->last(kind::upgraded).pid;
  const bool taken = co_await eventually([&] { return pid_file::owner(path) == next; });
  CHECK(taken);
  const auto status = co_await s->primary.wait();
  CHECK(status == exit_status::exited(0));
  CHECK(pid_file::owner(path) == next);
  ::kill(next, SIGTERM);
  const int last = co_await adopted(next);
  CHECK(last == 0);
  CHECK_FALSE(pid_file::owner(path));
}

ASYNC_TEST("a log that nobody reads holds nothing up, and says afterwards what is missing") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  descriptor read(ends[0]), write(ends[1]);
  ::fcntl(write.get(), F_SETPIPE_SZ, 4096);
  const std::string page(4096, '.');
  REQUIRE(::write(write.get(), page.data(), page.size()) == 4096);
  auto program = helper("serve", "listen=127.0.0.1:0", "workers=2", "log=1");
  auto s = co_await server::start(std::move(program.err(std::move(write))));
  co_await s->until(kind::ready, 2);
  s->primary.signal(SIGHUP);
  co_await s->until(kind::reloaded);
  std::string text(8192, '\0');
  const auto first = ::read(read.get(), text.data(), text.size());
  CHECK(first == 4096);
  s->primary.signal(SIGHUP);
  co_await s->until(kind::reloaded, 2);
  const auto size = ::read(read.get(), text.data(), text.size());
  REQUIRE(size > 0);
  text.resize(static_cast<std::size_t>(size));
  CHECK(text.starts_with("("));
  CHECK(text.find(" lines of this log are lost)\n") != std::string::npos);
  s->primary.signal(SIGTERM);
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("a server without standard descriptors writes into none of its sockets") {
  command program("sh", "-c", "exec \"$@\" <&- 2>&-", "sh", helper_path(), "serve", "listen=127.0.0.1:0", "workers=1",
                  "log=1");
  auto s = co_await server::start(std::move(program));
  co_await s->until(kind::ready);
  const auto where = [&](int number) {
    const auto link = "/proc/" + std::to_string(s->primary.pid()) + "/fd/" + std::to_string(number);
    return std::filesystem::read_symlink(link).string();
  };
  CHECK(where(0) == "/dev/null");
  CHECK(where(2) == "/dev/null");
  s->primary.signal(SIGTERM);
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("what a worker starts is no member of the cluster") {
  auto s = co_await server::ready();
  for (const auto* name : {"COHORT_SLOT", "COHORT_GENERATION", "COHORT_AGENT", "COHORT_CHANNEL_FD"}) {
    const auto answer = co_await ask_once(s->at(), std::string("environment ") + name);
    CHECK(answer == "(none)");
  }
  const auto other = co_await ask_once(s->at(), "environment PATH");
  CHECK(other != "(none)");
  s->primary.signal(SIGTERM);
  co_await s->ended();
}

ASYNC_TEST("a worker that hangs when its primary is killed does not hold the port for ever") {
  const subreaper adopts;
  auto s =
      co_await server::start(helper("serve", "listen=127.0.0.1:0", "workers=1", "distribution=shared", "drain=10"));
  co_await s->until(kind::ready);
  auto stuck = co_await client::connect(s->at());
  const auto who = co_await stuck.ask("pid");
  stuck.say("busy 600000");
  co_await yield(20);
  const pid_t pid = static_cast<pid_t>(std::stol(who));
  const auto workers = s->pids(kind::ready);
  s->primary.signal(SIGKILL);
  co_await s->ended();
  for (const pid_t each : workers) {
    int result = 0;
    const bool gone = co_await eventually([&] { return ::waitpid(each, &result, WNOHANG) == each; });
    CHECK(gone);
    if (each != pid) continue;
    CHECK(WIFSIGNALED(result));
    CHECK(WTERMSIG(result) == SIGKILL);
  }
  auto at = s->at();
  open_listener(at, listen_settings());
}

ASYNC_TEST("what a worker says of itself is one short line of the log") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 1));
  const auto answer = co_await ask_once(c->at(), "shout");
  CHECK(answer == "shout done");
  co_await c->until(event_kind::draining);
  const auto text = c->last(event_kind::draining).text;
  CHECK(text.starts_with("?[2J?worker 7 ready!!!"));
  CHECK(text.size() < 300);
  co_await c->stop();
}

ASYNC_TEST("where a container refuses pidfd_send_signal a worker is signalled by its pid, and that is said") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 1));
  const fault<&system::calls::pidfd_send_signal> refused(EPERM, 1, every_time);
  const bool there = c->primary.kill_worker(1);
  CHECK(there);
  co_await c->until(event_kind::exited);
  CHECK(c->last(event_kind::exited).status == exit_status::killed(SIGKILL));
  CHECK(c->first(event_kind::failed).text.ends_with("Operation not permitted; kill(2) has done it"));
  co_await c->until(event_kind::ready, 2);
  co_await c->stop();
}

ASYNC_TEST("a cluster that never restarts its workers goes on with those that are left") {
  auto options = options_for(distribution::round_robin, 2);
  options.restart = restart_policy::never();
  auto c = co_await running::ready(options);
  ::kill(c->pid(1), SIGKILL);
  co_await c->until(event_kind::degraded);
  CHECK(c->last(event_kind::degraded).text == "the restart policy replaces none");
  const auto answer = co_await ask_once(c->at(), "echo on");
  CHECK(answer == "on");
  ::kill(c->pid(2), SIGKILL);
  const int status = co_await c->ended();
  CHECK(status == 1);
  CHECK(c->count(event_kind::started) == 2);
}

ASYNC_TEST("connections that workers have served stay counted when the workers are replaced") {
  auto options = options_for(distribution::round_robin, 2);
  options.ping_interval = 10ms;
  auto c = co_await running::ready(options);
  for (int i = 0; i < 6; ++i) {
    const auto answer = co_await ask_once(c->at(), "echo x");
    CHECK(answer == "x");
  }
  const bool counted = co_await eventually([&] { return c->primary.stats().served == 6; });
  CHECK(counted);
  const auto reloaded = co_await c->reload();
  CHECK(reloaded.success());
  co_await c->until(event_kind::exited, 2);
  CHECK(c->primary.stats().served == 6);
  const auto answer = co_await ask_once(c->at(), "echo x");
  CHECK(answer == "x");
  const bool goes_on = co_await eventually([&] { return c->primary.stats().served == 7; });
  CHECK(goes_on);
  co_await c->stop();
}

using counts = std::map<std::string, std::uint64_t>;

ASYNC_TEST("what workers count is added up while they run, and stays when one is killed") {
  auto options = options_for(distribution::round_robin, 2);
  options.ping_interval = 10ms;
  auto c = co_await running::ready(options);
  for (const auto* request : {"count orders 1", "count orders 2", "count bytes_out 5000000000", "count refunds 0"}) {
    const auto answer = co_await ask_once(c->at(), request);
    CHECK(answer == "count done");
  }
  const counts all = {{"bytes_out", 5'000'000'000}, {"orders", 3}, {"refunds", 0}};
  const bool counted = co_await eventually([&] { return c->primary.stats().counters == all; });
  CHECK(counted);
  ::kill(c->pid(1), SIGKILL);
  co_await c->until(event_kind::ready, 3);
  CHECK(c->primary.stats().counters == all);
  for (int i = 0; i < 2; ++i) {
    const auto answer = co_await ask_once(c->at(), "count orders 10");
    CHECK(answer == "count done");
  }
  const bool goes_on = co_await eventually([&] { return c->primary.stats().counters.at("orders") == 23; });
  CHECK(goes_on);
  co_await c->stop();
}

ASYNC_TEST("the last word of a worker is what it has counted, in a reload and in a stop") {
  auto options = options_for(distribution::round_robin, 2);
  options.ping_interval = 1h;
  options.hang_timeout = 4h;
  auto c = co_await running::ready(options);
  for (int i = 0; i < 2; ++i) {
    const auto answer = co_await ask_once(c->at(), "count orders 1");
    CHECK(answer == "count done");
  }
  const auto reloaded = co_await c->reload();
  CHECK(reloaded.success());
  co_await c->until(event_kind::exited, 2);
  CHECK(c->primary.stats().counters == counts{{"orders", 2}});
  const auto answer = co_await ask_once(c->at(), "count orders 3");
  CHECK(answer == "count done");
  const int status = co_await c->stop();
  CHECK(status == 0);
  CHECK(c->primary.stats().counters == counts{{"orders", 5}});
}

ASYNC_TEST("a name that no counter may have is an error of the program") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 1));
  const auto answer = co_await ask_once(c->at(), "count or-ders 1");
  CHECK(answer == client::closed);
  co_await c->until(event_kind::draining);
  CHECK(c->first(event_kind::draining).text.starts_with("counter \"or-ders\": want letters"));
  co_await c->stop();
}

}  // namespace
}  // namespace cohort::test::operations_test
