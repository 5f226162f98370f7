// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/process/pid_file.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../support/fault.hpp"
#include "children.hpp"
#include "directory.hpp"

namespace cohort::test::pid_file_test {
namespace {

namespace fs = std::filesystem;

std::string own_number() { return std::to_string(::getpid()); }

// What a pid file for this path throws.
std::string refusal(const std::string& path) {
  try {
    const pid_file mine(path);
  } catch (const std::system_error& error) {
    return error.what();
  }
  return "";
}

// A child that holds a pid file, or the reason why it does not.
struct holder {
  child process;
  std::string said;
};

asio::awaitable<holder> hold(std::string path) {
  holder result;
  result.process = co_await spawn(helper("hold-pid-file", path).in(stdio::pipe).out(stdio::pipe));
  auto line = co_await result.process.out().read_line();
  result.said = line.value_or("nothing");
  co_return result;
}

PLAIN_TEST("a pid file names its process, is readable by all, and goes with its object") {
  const directory here;
  const auto path = here / "x.pid";
  const mode_t before = ::umask(077);
  {
    const pid_file mine(path);
    CHECK(mine);
    CHECK(mine.path() == path);
    CHECK(contents(path) == own_number() + '\n');
    struct stat file = {};
    REQUIRE(::stat(path.c_str(), &file) == 0);
    CHECK((file.st_mode & 07777) == 0644);
    CHECK(pid_file::owner(path) == ::getpid());
    CHECK(here.names() == std::vector<std::string>{"x.pid"});
  }
  ::umask(before);
  CHECK(here.names().empty());
  CHECK_FALSE(pid_file::owner(path));
}

PLAIN_TEST("a pid file that moves is removed once, by the last who has it") {
  const directory here;
  const auto path = here / "x.pid";
  pid_file other(here / "y.pid");
  {
    pid_file mine(path);
    pid_file moved(std::move(mine));
    CHECK_FALSE(mine);
    mine.remove();
    CHECK(pid_file::owner(path) == ::getpid());
    other = std::move(moved);
    CHECK(here.names() == std::vector<std::string>{"x.pid"});
  }
  CHECK(pid_file::owner(path) == ::getpid());
  other.remove();
  CHECK(here.names().empty());
  CHECK_FALSE(other);
  other.remove();
}

ASYNC_TEST("a second process is refused, and told whose the file is") {
  const directory here;
  const auto path = here / "x.pid";
  auto first = co_await hold(path);
  CHECK(first.said == "held");
  CHECK(pid_file::owner(path) == first.process.pid());
  const auto expected = "pid file \"" + path + "\", pid " + std::to_string(first.process.pid()) + ": already running";
  CHECK(refusal(path) == expected);
  auto second = co_await hold(path);
  CHECK(second.said == expected);
  const auto status = co_await second.process.wait();
  CHECK(status == exit_status::exited(75));

  CHECK(contents(path) == std::to_string(first.process.pid()) + '\n');
  CHECK(here.names() == std::vector<std::string>{"x.pid"});
  first.process.in().close();
  co_await first.process.wait();
  CHECK(here.names().empty());
}

PLAIN_TEST("a second pid file in the same process is refused as well") {
  const directory here;
  const auto path = here / "x.pid";
  const pid_file mine(path);
  CHECK(refusal(path) == "pid file \"" + path + "\", pid " + own_number() + ": already running");
  CHECK(pid_file::owner(path) == ::getpid());
}

ASYNC_TEST("what a killed process has left behind is stale, and replaced") {
  const directory here;
  const auto path = here / "x.pid";
  auto killed = co_await hold(path);
  co_await killed.process.stop(stop_policy::kill());
  CHECK(contents(path) == std::to_string(killed.process.pid()) + '\n');
  CHECK_FALSE(pid_file::owner(path));

  const pid_file mine(path);
  CHECK(contents(path) == own_number() + '\n');
  CHECK(pid_file::owner(path) == ::getpid());
  CHECK(here.names() == std::vector<std::string>{"x.pid"});
}

PLAIN_TEST("a file that nobody holds is stale, whatever it says and whoever has that number") {
  const directory here;
  const auto path = here / "x.pid";
  for (const auto& text : {own_number() + '\n', std::string("1\n"), std::string("words"), std::string()}) {
    CAPTURE(text);
    std::ofstream(path) << text;
    CHECK_FALSE(pid_file::owner(path));
    const pid_file mine(path);
    CHECK(contents(path) == own_number() + '\n');
  }
}

PLAIN_TEST("a file that is held and names nobody is in the way all the same") {
  const directory here;
  const auto path = here / "x.pid";
  const pid_file mine(path);
  std::ofstream(path, std::ios::trunc) << "words";
  CHECK(pid_file::owner(path) == 0);
  CHECK(refusal(path) == "pid file \"" + path + "\", pid 0: already running");
}

ASYNC_TEST("of many that start at the same time exactly one succeeds, also where a stale file is") {
  const directory here;
  const auto path = here / "x.pid";
  for (int round = 0; round < (sanitized ? 5 : 20); ++round) {
    std::ofstream(path) << "1\n";
    std::vector<child> children;
    for (int i = 0; i < 6; ++i) {
      children.push_back(co_await spawn(helper("hold-pid-file", path).in(stdio::pipe).out(stdio::pipe)));
    }
    std::vector<std::string> said;
    pid_t winner = 0;
    for (auto& each : children) {
      auto line = co_await each.out().read_line();
      said.push_back(line.value_or("nothing"));
      if (line == "held") winner = each.pid();
    }
    CHECK(std::count(said.begin(), said.end(), "held") == 1);
    const auto refused = "pid file \"" + path + "\", pid " + std::to_string(winner) + ": already running";
    CHECK(std::count(said.begin(), said.end(), refused) == 5);
    CHECK(here.names() == std::vector<std::string>{"x.pid"});
    for (auto& each : children) {
      each.in().close();
      co_await each.wait();
    }
    CHECK(here.names().empty());
  }
}

PLAIN_TEST("a stale file that goes away while it is looked at is no obstacle") {
  const directory here;
  const auto path = here / "x.pid";
  std::ofstream(path) << "1\n";
  const intercept<&system::calls::open> others([&](auto real, const char* name, int flags, mode_t mode) {
    if (others.calls() == 1) fs::remove(path);  // not there any more
    const int fd = real(name, flags, mode);
    if (others.calls() > 2) return fd;
    std::ofstream(here / "new") << "2\n";  // another one
    fs::rename(here / "new", path);
    return fd;
  });
  const pid_file mine(path);
  CHECK(others.calls() == 3);
  CHECK(contents(path) == own_number() + '\n');
}

PLAIN_TEST("a file that somebody has put in the place of the pid file is left alone") {
  const directory here;
  const auto path = here / "x.pid";
  {
    const pid_file mine(path);
    fs::remove(path);
    std::ofstream(path) << "another\n";
  }
  CHECK(contents(path) == "another\n");
}

PLAIN_TEST("a process that was forked off does not remove the file") {
  const directory here;
  const auto path = here / "x.pid";
  auto mine = std::make_unique<pid_file>(path);
  const pid_t pid = ::fork();
  if (pid == 0) {
    mine.reset();
    ::_exit(0);
  }
  REQUIRE(pid > 0);
  REQUIRE(::waitpid(pid, nullptr, 0) == pid);
  CHECK(pid_file::owner(path) == ::getpid());
}

PLAIN_TEST("a relative path is one of the directory in which the file was made") {
  const directory here;
  const auto before = fs::current_path();
  fs::current_path(here.path());
  std::optional<pid_file> mine(std::in_place, "x.pid");
  fs::current_path(before);
  CHECK(mine->path() == here / "x.pid");
  mine.reset();
  CHECK(here.names().empty());
}

PLAIN_TEST("what cannot be a pid file is said with its path, and nothing is left") {
  const directory here;
  fs::create_directory(here / "directory");
  CHECK(refusal(here / "nope/x.pid") == "pid file \"" + here.path() + "/nope/x.pid\": No such file or directory");
  CHECK(refusal(here / "directory") == "pid file \"" + here.path() + "/directory\": Is a directory");
  CHECK(refusal("") == "pid file \"\": invalid option");
  CHECK(refusal(std::string("a\0b", 3)) == "pid file \"a\": invalid option");
  std::ofstream(here / "file") << "1\n";
  CHECK(refusal(here / "file/x.pid") == "pid file \"" + here.path() + "/file/x.pid\": Not a directory");
  CHECK_THROWS_AS(pid_file::owner(here / "file/x.pid"), std::system_error);
  CHECK(here.names() == std::vector<std::string>{"directory", "file"});
}

PLAIN_TEST("a full disk leaves no pid file") {
  const directory here;
  const auto path = here / "x.pid";
  {
    const fault<&system::calls::write> full(ENOSPC);
    CHECK(refusal(path) == "pid file \"" + path + "\": No space left on device");
  }
  {
    const intercept<&system::calls::write> nearly_full(
        [](auto real, int fd, const void* data, std::size_t) { return real(fd, data, 1); });
    CHECK(refusal(path) == "pid file \"" + path + "\": No space left on device");
  }
  CHECK(here.names().empty());
}

PLAIN_TEST("a stale file that may not be opened stays") {
  const directory here;
  const auto path = here / "x.pid";
  std::ofstream(path) << "1\n";
  const fault<&system::calls::open> denied(EACCES, 1, every_time);
  CHECK(refusal(path) == "pid file \"" + path + "\": Permission denied");
  CHECK_THROWS_WITH_AS(pid_file::owner(path), ("pid file \"" + path + "\": Permission denied").c_str(),
                       std::system_error);
  CHECK(here.names() == std::vector<std::string>{"x.pid"});
}

}  // namespace
}  // namespace cohort::test::pid_file_test
