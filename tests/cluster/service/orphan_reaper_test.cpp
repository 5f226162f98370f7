// SPDX-License-Identifier: BSL-1.0
#include "../../../include/cohort/cluster/service/orphan_reaper.hpp"

#include <string>
#include <system_error>
#include <vector>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../include/cohort/core/task_group.hpp"
#include "../../process/children.hpp"

namespace cohort::test::orphan_reaper_test {
namespace {

/// Adopts processes whose parent dies.
struct subreaper {
  subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }
  ~subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); }
};

bool is_zombie(pid_t pid) {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

bool is_gone(pid_t pid) { return ::kill(pid, 0) == -1 && errno == ESRCH; }

/// A child that nobody holds a pidfd of, as one that was adopted.
pid_t forked(int status) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(status);
  return pid;
}

/// Processes whose parent, a shell, ends at once, and that end when the returned descriptor is closed.
asio::awaitable<std::vector<pid_t>> orphans(int count, write_pipe& life) {
  auto shell =
      co_await spawn(command("sh", "-c", "exec 3<&0; for i in $(seq $1); do (exec >&-; read x <&3) & echo $!; done",
                             "sh", std::to_string(count))
                         .in(stdio::pipe)
                         .out(stdio::pipe)
                         .die_with_parent(false));
  std::vector<pid_t> result;
  while (auto line = co_await shell.out().read_line()) result.push_back(std::stoi(*line));
  co_await shell.wait();
  life = std::move(shell.in());
  co_return result;
}

ASYNC_TEST("strangers are reaped, and children are not") {
  const subreaper adopts;
  write_pipe life;
  const auto pids = co_await orphans(5, life);
  REQUIRE(pids.size() == 5);
  auto mine = co_await spawn(helper("exit-code", "7"));
  const bool ended = co_await eventually([&] { return is_zombie(mine.pid()); });
  CHECK(ended);
  CHECK(reap_orphans_now() == 0);  // mine is the only one, and comes before those that end from here on
  life.close();
  for (const auto pid : pids) {
    const bool zombie = co_await eventually([&] { return is_zombie(pid); });
    CHECK(zombie);
  }
  CHECK(reap_orphans_now() == 5);
  CHECK(reap_orphans_now() == 0);
  for (const auto pid : pids) CHECK(is_gone(pid));
  const auto status = co_await mine.wait();
  CHECK(status == exit_status::exited(7));
}

PLAIN_TEST("nobody is reaped where there is nobody") { CHECK(reap_orphans_now() == 0); }

ASYNC_TEST("strangers are reaped as they end, those of before as well") {
  const subreaper adopts;
  const auto executor = co_await asio::this_coro::executor;
  const pid_t early = forked(3);
  const bool ended = co_await eventually([&] { return is_zombie(early); });
  CHECK(ended);
  task_group tasks(executor);
  std::error_code how;
  tasks.start(reap_orphans(), [&](std::exception_ptr thrown) {
    if (const auto error = detail::system_error_in(thrown)) how = error->code();
  });
  CHECK(is_gone(early));
  for (int round = 0; round < 3; ++round) {
    write_pipe life;
    const auto pids = co_await orphans(4, life);
    // children that end at the same time have their status, each of them
    std::vector<child> mine;
    for (int i = 0; i < 4; ++i) mine.push_back(co_await spawn(helper("exit-code", std::to_string(40 + i))));
    life.close();
    const bool gone = co_await eventually([&] { return std::all_of(pids.begin(), pids.end(), is_gone); });
    CHECK(gone);
    for (int i = 0; i < 4; ++i) {
      const auto status = co_await mine[static_cast<std::size_t>(i)].wait();
      CHECK(status == exit_status::exited(40 + i));
    }
  }
  tasks.cancel();
  co_await tasks.wait_empty();
  CHECK(how == operation_aborted());
  const pid_t late = forked(4);
  const bool left = co_await eventually([&] { return is_zombie(late); });
  CHECK(left);
  CHECK(reap_orphans_now() == 1);
}

ASYNC_TEST("a child whose status nobody has asked for yet keeps it, however long") {
  const auto executor = co_await asio::this_coro::executor;
  task_group tasks(executor);
  tasks.start(reap_orphans(), [](std::exception_ptr) {});
  auto first = co_await spawn(helper("exit-code", "11"));
  const bool ended = co_await eventually([&] { return is_zombie(first.pid()); });
  CHECK(ended);
  for (int i = 0; i < 5; ++i) {
    const pid_t stranger = forked(0);  // behind the one that is not reaped
    const bool gone = co_await eventually([&] { return is_gone(stranger); });
    CHECK(gone);
  }
  const auto status = co_await first.wait();
  CHECK(status == exit_status::exited(11));
  tasks.cancel();
  co_await tasks.wait_empty();
}

}  // namespace
}  // namespace cohort::test::orphan_reaper_test
