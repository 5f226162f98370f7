// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/process/daemonize.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../support/fault.hpp"
#include "children.hpp"
#include "directory.hpp"

namespace cohort::test::daemonize_test {
namespace {

namespace fs = std::filesystem;

// Makes this process the one that gets the daemons as its children, when the process that started them has ended.
class subreaper {
 public:
  subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }
  subreaper(const subreaper&) = delete;
  ~subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 0); }

  // Ends a daemon; what it has exited with.
  int end(pid_t pid, int signal = SIGTERM) const {
    REQUIRE(pid > 0);
    ::kill(pid, signal);
    return wait(pid);
  }

  int wait(pid_t pid) const {
    int status = -1;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    return status;
  }
};

struct started {
  exit_status status;
  std::string out, err;
};

// What the process in the foreground says and exits with.
asio::awaitable<started> start(command what) {
  auto foreground = co_await spawn(what.out(stdio::pipe).err(stdio::pipe));
  started result;
  result.out = co_await foreground.out().read_all();
  result.err = co_await foreground.err().read_all();
  result.status = co_await foreground.wait();
  co_return result;
}

command daemon(const directory& here, const std::string& end) {
  return helper("daemon", end, "pid=" + here / "x.pid", "out=" + here / "out");
}

// The lines that begin with a word, without it.
std::vector<std::string> facts(const directory& here, const std::string& word) {
  std::istringstream said(contents(here / "out"));
  std::vector<std::string> found;
  for (std::string line; std::getline(said, line);) {
    if (line.starts_with(word + ' ')) found.push_back(line.substr(word.size() + 1));
  }
  return found;
}

bool has_facts(const directory& here) { return contents(here / "out").find("facts end\n") != std::string::npos; }

// Nothing ran in the end, and the foreground has failed with this text.
void check_failed(const directory& here, const started& result, const std::string& text) {
  CHECK(result.status == exit_status::exited(1));
  CHECK(result.out == "");
  CHECK(result.err == text + '\n');
  CHECK_FALSE(fs::exists(here / "x.pid"));
  CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);  // the foreground has waited for its end
}

ASYNC_TEST("the process in the foreground ends well when the daemon is ready, and not before") {
  const subreaper reaper;
  const directory here;
  auto foreground = co_await spawn(daemon(here, "when").arg(here / "go").out(stdio::pipe).err(stdio::pipe));
  const bool waits = co_await eventually([&] { return has_facts(here); });
  CHECK(waits);
  co_await sleep(20ms);
  CHECK(foreground.running());
  const auto pid = pid_file::owner(here / "x.pid");
  REQUIRE(pid);
  CHECK(*pid != foreground.pid());

  std::ofstream(here / "go") << "now";
  const auto status = co_await foreground.wait();
  CHECK(status.success());
  const auto said = co_await foreground.err().read_all();
  CHECK(said == "");
  CHECK(pid_file::owner(here / "x.pid") == pid);
  CHECK(reaper.end(*pid) == 0);
  CHECK(here.names() == std::vector<std::string>{"go", "out"});
}

ASYNC_TEST("a daemon has a session, a directory and descriptors of its own") {
  const subreaper reaper;
  const directory here;
  command given = daemon(here, "ready");
  const auto result = co_await start(given.arg("an argument").fd(7, stdio::null).env("KEPT", "1"));
  CHECK(result.status.success());
  CHECK(result.out == "");
  CHECK(result.err == "");
  const auto pid = pid_file::owner(here / "x.pid").value_or(0);
  const auto number = std::to_string(pid);
  CHECK(facts(here, "pid") == std::vector{number + " session " + number + " group " + number});
  CHECK(facts(here, "cwd") == std::vector<std::string>{"/"});
  CHECK(facts(here, "marker") == std::vector<std::string>{"gone"});
  CHECK(facts(here, "word") == std::vector<std::string>{helper_path(), "daemon", "ready", "pid=" + here / "x.pid",
                                                        "out=" + here / "out", "an argument"});
  auto descriptors = facts(here, "fd");
  CHECK(descriptors.size() == 5);
  std::sort(descriptors.begin(), descriptors.end());
  descriptors.resize(5);
  CHECK(descriptors[0] == "0 /dev/null");
  CHECK(descriptors[1] == "1 " + here / "out");
  CHECK(descriptors[2] == "2 /dev/null");
  CHECK(descriptors[3].starts_with("3 pipe:"));
  CHECK(descriptors[4].ends_with("x.pid"));
  const bool told = co_await eventually([&] { return !fs::exists(fs::symlink_status("/proc/" + number + "/fd/3")); });
  CHECK(told);  // and nothing is left of that
  const auto name = contents("/proc/" + number + "/comm");
  CHECK(name == fs::path(helper_path()).filename().string() + '\n');
  CHECK(reaper.end(pid) == 0);
}

ASYNC_TEST("a daemon runs where and with the mask that it was told") {
  const subreaper reaper;
  const directory here;
  command given = daemon(here, "ready");
  const auto result = co_await start(given.arg("umask=027").arg("cwd=" + here.path()).cwd("/usr"));
  CHECK(result.status.success());
  CHECK(facts(here, "cwd") == std::vector{here.path()});
  CHECK(facts(here, "umask") == std::vector<std::string>{"027"});
  struct stat file = {};
  CHECK(::stat((here / "out").c_str(), &file) == 0);
  CHECK((file.st_mode & 07777) == 0640);
  CHECK(reaper.end(pid_file::owner(here / "x.pid").value_or(0)) == 0);
}

ASYNC_TEST("relative paths start where the program was started") {
  const subreaper reaper;
  const directory here;
  const auto result = co_await start(helper("daemon", "ready", "pid=x.pid", "out=out", "err=err").cwd(here.path()));
  CHECK(result.status.success());
  const auto pid = pid_file::owner(here / "x.pid").value_or(0);
  CHECK(has_facts(here));
  CHECK(contents(here / "err") == "an error line\n");
  CHECK(reaper.end(pid) == 0);
  CHECK(here.names() == std::vector<std::string>{"err", "out"});
}

ASYNC_TEST("log files are added to, and both may be one") {
  const subreaper reaper;
  const directory here;
  std::ofstream(here / "out") << "before\n";
  const auto result = co_await start(daemon(here, "ready").arg("err=" + here / "out"));
  CHECK(result.status.success());
  const auto log = contents(here / "out");
  CHECK(log.starts_with("before\npid "));
  CHECK(log.ends_with("facts end\nan error line\n"));
  CHECK(reaper.end(pid_file::owner(here / "x.pid").value_or(0)) == 0);
}

ASYNC_TEST("a daemon that is started with nothing open has its standard descriptors") {
  const subreaper reaper;
  const directory here;
  command given("/bin/sh", "-c", "exec \"$0\" \"$@\" <&- >&- 2>&-", helper_path(), "daemon", "ready");
  const auto result = co_await start(given.arg("pid=" + here / "x.pid").arg("out=" + here / "out"));
  CHECK(result.status.success());
  const auto pid = pid_file::owner(here / "x.pid").value_or(0);
  auto descriptors = facts(here, "fd");
  std::sort(descriptors.begin(), descriptors.end());
  REQUIRE(descriptors.size() == 5);
  CHECK(descriptors[0] == "0 /dev/null");
  CHECK(descriptors[1] == "1 " + here / "out");
  CHECK(descriptors[2] == "2 /dev/null");
  CHECK(reaper.end(pid) == 0);
}

ASYNC_TEST("a second daemon is refused, and the first one does not notice") {
  const subreaper reaper;
  const directory here;
  co_await start(daemon(here, "ready"));
  const auto pid = pid_file::owner(here / "x.pid").value_or(0);
  const auto log = contents(here / "out");

  const auto second = co_await start(daemon(here, "ready"));
  CHECK(second.status == exit_status::exited(1));
  CHECK(second.err ==
        "daemonize: pid file \"" + here / "x.pid" + "\", pid " + std::to_string(pid) + ": already running\n");
  CHECK(contents(here / "out") == log);
  CHECK(pid_file::owner(here / "x.pid") == pid);
  CHECK(reaper.end(pid) == 0);
  CHECK_FALSE(fs::exists(here / "x.pid"));
}

ASYNC_TEST("a daemon starts again after one that was killed") {
  const subreaper reaper;
  const directory here;
  co_await start(daemon(here, "ready"));
  const auto killed = pid_file::owner(here / "x.pid").value_or(0);
  reaper.end(killed, SIGKILL);
  CHECK(fs::exists(here / "x.pid"));

  const auto second = co_await start(daemon(here, "ready"));
  CHECK(second.status.success());
  const auto pid = pid_file::owner(here / "x.pid").value_or(0);
  CHECK(pid != killed);
  CHECK(reaper.end(pid) == 0);
}

ASYNC_TEST("what a daemon fails with is said in the foreground") {
  const subreaper reaper;
  const directory here;
  auto result = co_await start(daemon(here, "failed").arg("listen 127.0.0.1:80: Permission denied"));
  check_failed(here, result, "listen 127.0.0.1:80: Permission denied");
  for (const char* nothing : {"", "NUL"}) {
    result = co_await start(daemon(here, "failed").arg(nothing));
    check_failed(here, result, "daemonize: failed");
  }
  result = co_await start(daemon(here, "failed").arg(std::string(10'000, 'x')));
  check_failed(here, result, std::string(4095, 'x'));
}

ASYNC_TEST("how a daemon ends that is not ready yet is said in the foreground") {
  const subreaper reaper;
  const directory here;
  auto result = co_await start(daemon(here, "exit").arg("3"));
  check_failed(here, result, "daemonize: the daemon ended before it was ready: exited with 3");
  result = co_await start(daemon(here, "exit").arg("0"));
  check_failed(here, result, "daemonize: the daemon ended before it was ready: exited with 0");
  result = co_await start(daemon(here, "kill"));
  CHECK(fs::remove(here / "x.pid"));  // it could not do it itself
  check_failed(here, result, "daemonize: the daemon ended before it was ready: killed by SIGKILL (9)");
}

ASYNC_TEST("a daemon that does not get ready in time is stopped") {
  const subreaper reaper;
  const directory here;
  for (const char* end : {"late", "lose"}) {
    const auto result = co_await start(daemon(here, end).arg("within=1000"));
    CHECK(result.status == exit_status::exited(1));
    CHECK(result.err == "daemonize: the daemon was not ready within 1000 ms\n");
    CHECK_FALSE(pid_file::owner(here / "x.pid"));
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
  }
}

ASYNC_TEST("what a daemon cannot be given is said in the foreground, and it does not run") {
  const subreaper reaper;
  const directory here;
  const auto nope = here / "nope/x";
  auto result = co_await start(daemon(here, "ready").arg("cwd=" + nope));
  check_failed(here, result, "daemonize: chdir \"" + nope + "\": No such file or directory");
  result = co_await start(daemon(here, "ready").arg("pid=" + nope));
  check_failed(here, result, "daemonize: pid file \"" + nope + "\": No such file or directory");
  result = co_await start(daemon(here, "ready").arg("out=" + nope));
  check_failed(here, result, "daemonize: open \"" + nope + "\": No such file or directory");
  result = co_await start(daemon(here, "ready").arg("err=" + here.path()));
  check_failed(here, result, "daemonize: open \"" + here.path() + "\": Is a directory");
  CHECK(contents(here / "out") == "");
}

ASYNC_TEST("a daemon lives on when the foreground is killed before it is ready") {
  const subreaper reaper;
  const directory here;
  auto foreground = co_await spawn(daemon(here, "when").arg(here / "go").err(stdio::null));
  const bool waits = co_await eventually([&] { return has_facts(here); });
  CHECK(waits);
  co_await foreground.stop(stop_policy::kill());
  const auto pid = pid_file::owner(here / "x.pid").value_or(0);
  std::ofstream(here / "go") << "now";
  const auto pipe = "/proc/" + std::to_string(pid) + "/fd/3";
  const bool told = co_await eventually([&] { return !fs::exists(fs::symlink_status(pipe)); });
  CHECK(told);
  CHECK(reaper.end(pid) == 0);
}

ASYNC_TEST("a daemon cannot become one again") {
  const subreaper reaper;
  const directory here;
  const auto result = co_await start(daemon(here, "twice"));
  check_failed(here, result, "daemonize: this daemon: already running");
}

ASYNC_TEST("neither a title nor threads are in the way") {
  const subreaper reaper;
  const directory here;
  const auto result = co_await start(daemon(here, "ready").arg("title=a title").arg("thread=1").arg("an argument"));
  CHECK(result.status.success());
  CHECK(result.err == "");
  const auto words = facts(here, "word");
  REQUIRE(words.size() == 8);
  CHECK(words.front() == helper_path());
  CHECK(words.back() == "an argument");
  CHECK(reaper.end(pid_file::owner(here / "x.pid").value_or(0)) == 0);
}

ASYNC_TEST("a descriptor that no foreground process gave is not taken for its word") {
  for (const char* value : {"3", "4", "x", ""}) {
    const auto result = co_await start(helper("daemon", "ready").env("COHORT_DAEMON_FD", value).fd(3, stdio::null));
    CHECK(result.status == exit_status::exited(70));
    CHECK(result.err == std::string("helper daemon: daemonize: COHORT_DAEMON_FD=") + value + ": invalid option\n");
  }
}

PLAIN_TEST("what keeps a daemon from being started is thrown in the foreground") {
  {
    const fault<&system::calls::pipe2> no_pipe(EMFILE);
    CHECK_THROWS_WITH_AS((void)this_process::daemonize(), "daemonize: pipe: Too many open files", std::system_error);
  }
  {
    const fault<&system::calls::clone> no_process(EAGAIN);
    CHECK_THROWS_WITH_AS((void)this_process::daemonize(), "spawn: clone: Resource temporarily unavailable",
                         std::system_error);
  }
}

}  // namespace
}  // namespace cohort::test::daemonize_test
