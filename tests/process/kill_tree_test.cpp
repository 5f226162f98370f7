// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/process/detail/process_tree.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include "../../include/cohort/process/spawn.hpp"
#include "../support/fault.hpp"
#include "children.hpp"
#include "processes.hpp"

namespace cohort::test::kill_tree_test {
namespace {

// The number in a line such as "left 123".
asio::awaitable<pid_t> said_pid(child& from, std::string word) {
  const auto line = co_await from.out().read_line();
  REQUIRE(line.has_value());
  std::istringstream words(*line);
  std::string said;
  pid_t pid = 0;
  words >> said >> pid;
  CHECK(said == word);
  co_return pid;
}

struct family {
  child root;
  std::vector<process> all;
  std::map<pid_t, pid_t> parents;
};

// `helper tree`, with all of its processes there.
asio::awaitable<family> grown_tree(int depth, int width) {
  family made;
  made.root = co_await spawn(helper("tree", std::to_string(depth), std::to_string(width)).out(stdio::pipe));
  std::size_t size = 1, level = 1;
  for (int i = 0; i < depth; ++i) size += level *= static_cast<std::size_t>(width);
  while (made.all.size() < size) {
    const auto line = co_await made.root.out().read_line();
    REQUIRE(line.has_value());
    std::istringstream words(*line);
    std::string word;
    pid_t pid = 0, parent = 0;
    words >> word >> pid >> parent;
    CHECK(word == "node");
    made.all.emplace_back(pid);
    made.parents[pid] = parent;
  }
  co_return made;
}

asio::awaitable<void> all_end(const std::vector<process>& all) {
  for (const auto& each : all) {
    const bool ended = co_await each.ends();
    CHECK(ended);
  }
}

// Which process a pidfd is (proc_pid_fdinfo(5)).
pid_t pid_of(int pidfd) {
  std::ifstream file("/proc/self/fdinfo/" + std::to_string(pidfd));
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with("Pid:")) return std::stoi(line.substr(4));
  }
  return 0;
}

std::error_code thrown_by(auto&& function) {
  try {
    function();
  } catch (const std::system_error& error) {
    return error.code();
  }
  return {};
}

ASYNC_TEST("killing a tree kills every process in it") {
  auto family = co_await grown_tree(3, 2);
  CHECK(family.all.size() == 15);
  for (const auto& each : family.all) CHECK(each.runs());
  CHECK(family.root.kill_tree());
  co_await all_end(family.all);
  const auto status = co_await family.root.wait();
  CHECK(status == exit_status::killed(SIGKILL));
}

ASYNC_TEST("all processes of a tree are stopped, then signalled, children before their parents, then continued") {
  auto family = co_await grown_tree(2, 3);
  std::vector<std::pair<pid_t, int>> sent;
  {
    const intercept<&system::calls::pidfd_send_signal> recorded([&](auto real, int pidfd, int signal) {
      if (signal != 0) sent.emplace_back(pid_of(pidfd), signal);
      return real(pidfd, signal);
    });
    CHECK(family.root.kill_tree(SIGTERM));
  }
  const auto size = family.all.size();
  REQUIRE(sent.size() == 3 * size);
  const auto place = [&](pid_t pid, int signal) {
    return std::find(sent.begin(), sent.end(), std::pair(pid, signal)) - sent.begin();
  };
  const auto count = static_cast<std::ptrdiff_t>(size);
  for (const auto& [pid, parent] : family.parents) {
    CHECK(place(pid, SIGSTOP) < count);
    CHECK(place(pid, SIGTERM) >= count);
    CHECK(place(pid, SIGTERM) < 2 * count);
    CHECK(place(pid, SIGCONT) >= 2 * count);
    if (parent == ::getpid()) continue;
    CHECK(place(parent, SIGSTOP) < place(pid, SIGSTOP));
    CHECK(place(pid, SIGTERM) < place(parent, SIGTERM));
    CHECK(place(pid, SIGCONT) < place(parent, SIGCONT));
  }

  // the handler of each has run
  std::set<std::string> expected, said;
  for (const auto& each : family.all) expected.insert("term " + std::to_string(each.pid()));
  while (auto line = co_await family.root.out().read_line()) said.insert(*line);
  CHECK(said == expected);
  const auto status = co_await family.root.wait();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("SIGSTOP leaves a tree stopped, and SIGCONT continues it") {
  auto family = co_await grown_tree(1, 3);
  CHECK(family.root.kill_tree(SIGSTOP));
  for (const auto& each : family.all) {
    const bool stopped = co_await eventually([&] { return each.state() == 'T'; });
    CHECK(stopped);
  }
  CHECK(family.root.kill_tree(SIGCONT));
  for (const auto& each : family.all) {
    const bool runs = co_await eventually([&] { return each.state() == 'S'; });
    CHECK(runs);
  }
  CHECK(family.root.kill_tree(SIGSTOP));
  CHECK(family.root.kill_tree());
  co_await all_end(family.all);
  co_await family.root.wait();
}

ASYNC_TEST("a descendant in a session of its own belongs to the tree while its parent lives") {
  auto started = co_await spawn(helper("stray").out(stdio::pipe));
  const process moved(co_await said_pid(started, "moved"));
  CHECK(::getpgid(moved.pid()) != started.pid());
  CHECK(started.kill_tree());
  const bool ended = co_await moved.ends();
  CHECK(ended);
  co_await started.wait();
}

ASYNC_TEST("a descendant that has lost its parent is found by the group of the child, also when that has ended") {
  auto started = co_await spawn(helper("leave", "group", "600000").out(stdio::pipe));
  const process left(co_await said_pid(started, "left"));
  siginfo_t info;
  REQUIRE(::waitid(P_PID, static_cast<id_t>(started.pid()), &info, WEXITED | WNOWAIT) == 0);
  CHECK(left.runs());
  CHECK(started.kill_tree());
  const bool ended = co_await left.ends();
  CHECK(ended);
  const auto status = co_await started.wait();
  CHECK(status.success());
}

ASYNC_TEST("a descendant that has lost its parent and left the group is not found") {
  for (const auto* where : {"own", "session"}) {
    auto started = co_await spawn(helper("leave", where, "600000").out(stdio::pipe));
    const process left(co_await said_pid(started, "left"));
    siginfo_t info;
    REQUIRE(::waitid(P_PID, static_cast<id_t>(started.pid()), &info, WEXITED | WNOWAIT) == 0);
    CHECK(started.kill_tree());
    CHECK(left.runs());
    left.kill();
    co_await started.wait();
  }
}

ASYNC_TEST("a child that has been reaped has no tree: its number may be another's") {
  auto started = co_await spawn(helper("leave", "group", "600000").out(stdio::pipe));
  const process left(co_await said_pid(started, "left"));
  co_await started.wait();
  const intercept<&system::calls::pidfd_send_signal> counted(
      [](auto real, int pidfd, int signal) { return real(pidfd, signal); });
  CHECK_FALSE(started.kill_tree());
  CHECK(counted.calls() == 0);
  CHECK(left.runs());
  left.kill();

  child none;
  CHECK(thrown_by([&] { none.kill_tree(); }) == errc::no_child);
}

ASYNC_TEST("processes that fork as fast as they can do not get away") {
  for (int i = 0; i < 5; ++i) {
    auto started = co_await spawn(helper("breeder", "300").out(stdio::pipe));
    const auto pid = co_await said_pid(started, "breeding");
    CHECK(started.kill_tree());
    const bool gone = co_await eventually([&] { return members_of(pid).empty(); });
    CHECK(gone);
    co_await started.wait();
  }
}

ASYNC_TEST("a chain of processes of which each forks the next one and ends is caught") {
  for (int i = 0; i < 5; ++i) {
    auto started = co_await spawn(helper("runner").out(stdio::pipe));
    const auto pid = co_await said_pid(started, "running");
    co_await sleep(5ms);
    CHECK(started.kill_tree());
    const bool gone = co_await eventually([&] { return members_of(pid).empty(); });
    CHECK(gone);
    co_await started.wait();
  }
}

ASYNC_TEST("a number that has come to mean another process is left alone") {
  auto started = co_await spawn(helper("stray").out(stdio::pipe));
  const process moved(co_await said_pid(started, "moved"));
  // from the second look on, the number is that of a process which has started at another time
  int looks = 0;
  std::set<pid_t> signalled;
  {
    const auto record = "/proc/" + std::to_string(moved.pid()) + "/stat";
    const intercept<&system::calls::open> replaced([&](auto real, const char* path, int flags, mode_t mode) {
      if (path == record && ++looks > 1) path = "/proc/1/stat";
      return real(path, flags, mode);
    });
    const intercept<&system::calls::pidfd_send_signal> recorded([&](auto real, int pidfd, int signal) {
      if (signal != 0) signalled.insert(pid_of(pidfd));
      return real(pidfd, signal);
    });
    CHECK(started.kill_tree());
  }
  CHECK(looks > 1);
  CHECK(signalled.size() == 2);  // the child, and the one between
  CHECK(signalled.contains(started.pid()));
  CHECK_FALSE(signalled.contains(moved.pid()));
  CHECK_FALSE(signalled.contains(1));
  CHECK(moved.runs());
  moved.kill();
  co_await started.wait();
}

ASYNC_TEST("a tree does not include the process that signals it, even in the same group") {
  auto family = co_await grown_tree(1, 1);
  const auto before = ::getpgrp();
  const bool joined = ::setpgid(0, family.root.pid()) == 0;
  if (!joined) MESSAGE("who leads a session cannot join a group");  // EPERM: setpgid(2)
  CHECK(family.root.kill_tree());  // in any case: what is left of the family would hold the test's own output
  if (joined) CHECK(::setpgid(0, before) == 0);
  co_await all_end(family.all);
  co_await family.root.wait();
}

ASYNC_TEST("without a free descriptor nobody stays stopped, and the child can be killed later") {
  auto family = co_await grown_tree(1, 2);
  unsigned failures = 0;
  for (unsigned first = 1;; ++first) {
    const fault<&system::calls::pidfd_open> full(EMFILE, first);
    const auto code = thrown_by([&] { family.root.kill_tree(SIGURG); });  // which does nothing
    if (full.failed() == 0) break;
    if (code) CHECK(code == std::error_code(EMFILE, std::system_category()));
    failures += code ? 1 : 0;
    for (const auto& each : family.all) CHECK(each.state() != 'T');
  }
  CHECK(failures >= 4);  // two to be stopped, two to be signalled; the child is known by its pidfd
  const auto opened = failures;
  for (unsigned first = 1;; first += 1 + first / 4) {  // all the first ones, and some of each later look
    const fault<&system::calls::open> full(EMFILE, first);
    const auto code = thrown_by([&] { family.root.kill_tree(SIGURG); });
    if (full.failed() == 0) break;
    if (code) CHECK(code == std::error_code(EMFILE, std::system_category()));
    failures += code ? 1 : 0;
    for (const auto& each : family.all) CHECK(each.state() != 'T');
  }
  CHECK(failures > opened + 6);
  CHECK(family.root.kill_tree());
  co_await all_end(family.all);
  co_await family.root.wait();
}

ASYNC_TEST("a system that refuses pidfd_open is an error, and nobody stays stopped") {
  auto family = co_await grown_tree(1, 2);
  {
    const fault<&system::calls::pidfd_open> refused(EPERM, 1, every_time);
    const auto code = thrown_by([&] { family.root.kill_tree(SIGTERM); });
    CHECK(code == std::error_code(EPERM, std::system_category()));
    for (const auto& each : family.all) CHECK(each.state() != 'T');
  }
  CHECK(family.root.kill_tree());
  co_await all_end(family.all);
  co_await family.root.wait();
}

ASYNC_TEST("a child that refuses a signal says so, and its descendants have got it") {
  auto family = co_await grown_tree(1, 2);
  const auto root = family.root.pid();
  {
    const intercept<&system::calls::kill> group([](auto, pid_t, int) { return errno = EPERM, -1; });
    const intercept<&system::calls::pidfd_send_signal> refused([root](auto real, int pidfd, int signal) {
      return pid_of(pidfd) == root ? (errno = EPERM, -1) : real(pidfd, signal);
    });
    const auto code = thrown_by([&] { family.root.kill_tree(SIGKILL); });
    CHECK(code == std::error_code(EPERM, std::system_category()));
  }
  for (const auto& each : family.all) {
    if (each.pid() == root) continue;
    const bool ended = co_await each.ends();
    CHECK(ended);
  }
  CHECK(family.root.running());
  family.root.kill();
  co_await family.root.wait();
}

ASYNC_TEST("a number that is no signal stops nobody") {
  auto family = co_await grown_tree(0, 0);
  for (const int number : {-1, 65, 1'000}) {
    const auto code = thrown_by([&] { family.root.kill_tree(number); });
    CHECK(code == std::error_code(EINVAL, std::system_category()));
  }
  CHECK(family.root.kill_tree(0));
  CHECK(family.all[0].runs());
  CHECK(family.root.kill_tree());
  co_await family.root.wait();
}

ASYNC_TEST("terminate asks a child to end, and kill ends it") {
  auto asked = co_await spawn(helper("stubborn").out(stdio::pipe));
  co_await asked.out().read_line();
  CHECK(asked.terminate());
  const auto line = co_await asked.out().read_line();
  CHECK(line == "asked");
  CHECK(asked.kill());
  const auto status = co_await asked.wait();
  CHECK(status == exit_status::killed(SIGKILL));
  CHECK_FALSE(asked.terminate());
  CHECK_FALSE(asked.kill());
}

}  // namespace
}  // namespace cohort::test::kill_tree_test
