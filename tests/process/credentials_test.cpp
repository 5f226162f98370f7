// SPDX-License-Identifier: BSL-1.0
// The user and the groups of a child. What changes them needs root; as another user those tests say so and check the
// refusal instead.
#include "../../include/cohort/process/detail/credentials.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../support/fault.hpp"
#include "children.hpp"

namespace cohort::test::credentials_test {
namespace {

// Every user may run and read these, which need not hold for the helper.
command identity() { return command("/bin/grep", "-E", "^(Uid|Gid|Groups):", "/proc/self/status"); }

std::string same_four_times(std::string_view name, unsigned id) {
  return fmt::format("{0}:\t{1}\t{1}\t{1}\t{1}\n", name, id);
}

// The text of identity() for a child that has these.
std::string text_of(uid_t user, gid_t group, std::vector<gid_t> groups) {
  std::ranges::sort(groups);
  std::string list;
  for (const auto each : groups) list += fmt::format("{} ", each);
  if (groups.empty()) list = " ";
  return same_four_times("Uid", user) + same_four_times("Gid", group) + "Groups:\t" + list + '\n';
}

bool is_root() {
  if (::geteuid() == 0) return true;
  MESSAGE("needs root to change the user of a child");
  return false;
}

// Stands for a kernel that lets everybody change everything, so that any user can see what it is asked.
struct recorded {
  std::string steps;
  std::vector<gid_t> groups;
  gid_t group = 0;
  uid_t user = 0;
};

class recorder {
 public:
  recorder() {
    seen_.steps.reserve(100);  // the child, on this memory, must not allocate
    seen_.groups.reserve(100);
  }

  const recorded& seen() const { return seen_; }

 private:
  recorded seen_;
  intercept<&system::calls::setgroups> groups_{[this](auto, size_t size, const gid_t* groups) {
    seen_.steps += "groups ";
    seen_.groups.assign(groups, groups + size);
    return 0;
  }};
  intercept<&system::calls::setresgid> group_{[this](auto, gid_t real, gid_t effective, gid_t saved) {
    seen_.steps += real == effective && real == saved ? "group " : "groups that differ ";
    seen_.group = real;
    return 0;
  }};
  intercept<&system::calls::setresuid> user_{[this](auto, uid_t real, uid_t effective, uid_t saved) {
    seen_.steps += real == effective && real == saved ? "user " : "users that differ ";
    seen_.user = real;
    return 0;
  }};
};

ASYNC_TEST("groups change before the group, and the group before the user" * not_under_valgrind()) {
  const recorder record;
  co_await output_of(helper("exit-code", "0").user(12).group(34).groups(56, 78));
  CHECK(record.seen().steps == "groups group user ");
  CHECK(record.seen().user == 12);
  CHECK(record.seen().group == 34);
  const std::vector<gid_t> expected = {56, 78};
  CHECK(record.seen().groups == expected);
}

ASYNC_TEST("a user comes with its groups, by name and by number, and explicit ones come first" * not_under_valgrind()) {
  const passwd* const entry = ::getpwnam("nobody");
  REQUIRE(entry != nullptr);
  const auto user = entry->pw_uid;
  const auto group = entry->pw_gid;
  std::vector<gid_t> groups(100);
  int count = 100;
  REQUIRE(::getgrouplist("nobody", group, groups.data(), &count) != -1);
  groups.resize(static_cast<std::size_t>(count));
  for (const auto& what : {helper("exit-code", "0").user("nobody"), helper("exit-code", "0").user(user)}) {
    const recorder record;
    co_await output_of(what);
    CHECK(record.seen().steps == "groups group user ");
    CHECK(record.seen().user == user);
    CHECK(record.seen().group == group);
    CHECK(record.seen().groups == groups);
  }
  {
    const recorder record;
    co_await output_of(helper("exit-code", "0").user("nobody").group("daemon"));
    CHECK(record.seen().group == ::getgrnam("daemon")->gr_gid);
    CHECK(record.seen().groups == groups);
  }
  {
    const recorder record;
    const std::vector<std::string> names = {"daemon", "nogroup"};
    co_await output_of(helper("exit-code", "0").groups(names).user("nobody"));
    CHECK(record.seen().group == group);
    const std::vector<gid_t> expected = {::getgrnam("daemon")->gr_gid, ::getgrnam("nogroup")->gr_gid};
    CHECK(record.seen().groups == expected);
  }
}

ASYNC_TEST("a number that the user database does not know has no groups but the one that is given" *
           not_under_valgrind()) {
  {
    const recorder record;
    co_await output_of(helper("exit-code", "0").user(2'999'999'999u).group(7));
    CHECK(record.seen().steps == "groups group user ");
    CHECK(record.seen().user == 2'999'999'999u);
    CHECK(record.seen().group == 7);
    CHECK(record.seen().groups.empty());
  }
  const auto text = co_await test::text_of(spawn(helper("exit-code", "0").user(2'999'999'999u)));
  CHECK(text == "spawn: no group for unknown user 2999999999: invalid option");
}

ASYNC_TEST("a group alone leaves user and supplementary groups as they are" * not_under_valgrind()) {
  {
    const recorder record;
    co_await output_of(helper("exit-code", "0").group("daemon"));
    CHECK(record.seen().steps == "group ");
  }
  const recorder record;
  co_await output_of(helper("exit-code", "0").groups());
  CHECK(record.seen().steps == "groups ");
  CHECK(record.seen().groups.empty());
}

ASYNC_TEST("a user or a group that there is not is said by name") {
  using namespace std::string_literals;
  const auto what = helper("exit-code", "0").in(stdio::pipe);
  const auto user = co_await test::text_of(spawn(command(what).user("nope-nope")));
  CHECK(user == "spawn: unknown user \"nope-nope\": invalid option");
  const auto group = co_await test::text_of(spawn(command(what).group("nope-nope")));
  CHECK(group == "spawn: unknown group \"nope-nope\": invalid option");
  const auto groups = co_await test::text_of(spawn(command(what).groups("daemon", "nope-nope")));
  CHECK(groups == "spawn: unknown group \"nope-nope\": invalid option");
  const auto nul = co_await test::text_of(spawn(command(what).user("root\0x"s)));
  CHECK(nul == "spawn: user \"root\\0x\": invalid option");
  // the number that the kernel takes for "no change"
  const auto unchanged = co_await test::text_of(spawn(command(what).user(static_cast<uid_t>(-1)).group(1)));
  CHECK(unchanged == "spawn: user 4294967295: invalid option");
  const auto negative = co_await test::text_of(spawn(command(what).group(-1)));
  CHECK(negative == "spawn: group -1: invalid option");
  const auto code = co_await error_of(spawn(command(what).user("nope-nope")));
  CHECK(code == errc::invalid_option);
}

ASYNC_TEST("a change that is not permitted is said with what was asked for, and leaves nothing behind" *
           not_under_valgrind()) {
  const auto what = helper("exit-code", "0").in(stdio::pipe).out(stdio::pipe);
  const auto whole = command(what).user("nobody");
  const auto parts = command(what).user(12).group("daemon").groups("daemon", 56);
  {
    const fault<&system::calls::setgroups> failing(EPERM, 1, every_time);
    const auto of_user = co_await test::text_of(spawn(whole));
    CHECK(of_user == "spawn: user \"nobody\": Operation not permitted");
    const auto by_themselves = co_await test::text_of(spawn(parts));
    CHECK(by_themselves == "spawn: groups \"daemon\", 56: Operation not permitted");
  }
  const intercept<&system::calls::setgroups> permitted([](auto, size_t, const gid_t*) { return 0; });
  {
    const fault<&system::calls::setresgid> failing(EPERM, 1, every_time);
    const auto of_user = co_await test::text_of(spawn(whole));
    CHECK(of_user == "spawn: user \"nobody\": Operation not permitted");
    const auto by_itself = co_await test::text_of(spawn(parts));
    CHECK(by_itself == "spawn: group \"daemon\": Operation not permitted");
  }
  const intercept<&system::calls::setresgid> permitted_too([](auto, gid_t, gid_t, gid_t) { return 0; });
  const fault<&system::calls::setresuid> failing(EAGAIN, 1, every_time);
  const auto by_name = co_await test::text_of(spawn(whole));
  CHECK(by_name == "spawn: user \"nobody\": Resource temporarily unavailable");
  const auto by_number = co_await test::text_of(spawn(parts));
  CHECK(by_number == "spawn: user 12: Resource temporarily unavailable");
}

ASYNC_TEST("as an ordinary user a change is refused" * not_under_valgrind()) {
  if (::geteuid() == 0) {
    MESSAGE("as root there is no refusal to see");
    co_return;
  }
  const auto user = co_await test::text_of(spawn(identity().user("root")));
  CHECK(user == "spawn: user \"root\": Operation not permitted");
  const auto group = co_await test::text_of(spawn(identity().group("daemon")));
  CHECK(group == "spawn: group \"daemon\": Operation not permitted");
  const auto groups = co_await test::text_of(spawn(identity().groups("daemon", 5)));
  CHECK(groups == "spawn: groups \"daemon\", 5: Operation not permitted");
  const auto none = co_await test::text_of(spawn(identity().groups()));
  CHECK(none == "spawn: groups none: Operation not permitted");
}

ASYNC_TEST("a child runs as the user that it is given, and the parent does not") {
  if (!is_root()) co_return;
  std::vector<gid_t> parents(100);
  parents.resize(static_cast<std::size_t>(::getgroups(100, parents.data())));
  const auto before = co_await output_of(identity());
  CHECK(before == text_of(0, ::getegid(), parents));

  const auto nobody = co_await output_of(identity().user("nobody"));
  CHECK(nobody == text_of(65'534, 65'534, {65'534}));
  const auto numbers = co_await output_of(identity().user(1234).group(5678).groups(3, 2));
  CHECK(numbers == text_of(1234, 5678, {2, 3}));
  const auto alone = co_await output_of(identity().user(1234).group(5678));
  CHECK(alone == text_of(1234, 5678, {}));
  const auto group = co_await output_of(identity().group("daemon"));
  CHECK(group == text_of(0, 1, parents));
  const auto none = co_await output_of(identity().groups());
  CHECK(none == text_of(0, ::getegid(), {}));

  const auto after = co_await output_of(identity());
  CHECK(after == before);
}

ASYNC_TEST("the other threads of the parent keep their user") {
  if (!is_root()) co_return;
  std::atomic<bool> done = false;
  std::atomic<long> user = -1;
  std::thread other([&] {
    done.wait(false);
    user = ::syscall(SYS_geteuid);
  });
  const auto nobody = co_await output_of(identity().user("nobody"));
  done = true;
  done.notify_one();
  other.join();
  CHECK(nobody == text_of(65'534, 65'534, {65'534}));
  CHECK(user == 0);
  CHECK(::syscall(SYS_geteuid) == 0);
}

ASYNC_TEST("a parent whose child changes its user can still be traced and write a core" * not_under_valgrind()) {
  if (!is_root()) co_return;
  const auto before = ::prctl(PR_GET_DUMPABLE);
  if (before != 1) MESSAGE("this process is not dumpable to begin with");
  co_await output_of(identity().user("nobody"));
  CHECK(::prctl(PR_GET_DUMPABLE) == before);
  const auto failing = co_await test::text_of(spawn(identity().user("nobody").cwd("/nope")));
  CHECK(failing == "spawn: chdir \"/nope\": No such file or directory");
  CHECK(::prctl(PR_GET_DUMPABLE) == before);
  REQUIRE(::prctl(PR_SET_DUMPABLE, 0) == 0);
  co_await output_of(identity().user("nobody"));
  CHECK(::prctl(PR_GET_DUMPABLE) == 0);
  ::prctl(PR_SET_DUMPABLE, before);
}

ASYNC_TEST("a child that changes its user still dies with its parent") {
  if (!is_root()) co_return;
  const directory place;
  std::filesystem::permissions(place.path(), std::filesystem::perms(0755));
  std::filesystem::copy_file(helper_path(), place / "helper");
  const auto signal = co_await output_of(command(place / "helper", "death-signal").user("nobody"));
  CHECK(signal == fmt::format("{}\n", SIGKILL));
}

ASYNC_TEST("the directory is entered with the rights of the child's user" * not_under_valgrind()) {
  if (!is_root()) co_return;
  const directory place;  // which is for its owner alone
  const auto text = co_await test::text_of(spawn(identity().user("nobody").cwd(place.path())));
  CHECK(text == fmt::format("spawn: chdir \"{}\": Permission denied", place.path()));
}

}  // namespace
}  // namespace cohort::test::credentials_test
