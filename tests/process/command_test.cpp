// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/process/command.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include "children.hpp"

namespace cohort::test::command_test {
namespace {

ASYNC_TEST("a command takes arguments of every kind of string") {
  const std::string string = "b";
  const std::string_view view = "c";
  const std::filesystem::path path = "/d";
  const std::vector<std::string> more = {"e", ""};
  const std::array<const char*, 1> last = {"two words"};
  command what(helper_path(), "command-line", string, view, path);
  what.args(more).arg("f").args(last);
  const auto output = co_await output_of(what);
  const auto lines = lines_of(output);
  const std::vector<std::string> expected = {helper_path(), "command-line", "b", "c", "/d", "e", "", "f", "two words"};
  CHECK(lines == expected);
}

ASYNC_TEST("a command takes its arguments from a range as well") {
  const std::vector<std::string> words = {"command-line", "a", "two words"};
  const auto output = co_await output_of(command(helper_path(), words));
  const std::vector<std::string> expected = {helper_path(), "command-line", "a", "two words"};
  CHECK(lines_of(output) == expected);
  const command none("true", std::vector<std::string>());
  CHECK(none.program() == "true");
}

ASYNC_TEST("argv0 is what the program sees as its name") {
  const auto output = co_await output_of(helper("command-line").argv0("worker 3"));
  const auto lines = lines_of(output);
  const std::vector<std::string> expected = {"worker 3", "command-line"};
  CHECK(lines == expected);
}

ASYNC_TEST("cwd is where the child starts, and the parent stays where it is") {
  const auto before = std::filesystem::current_path();
  const auto there = co_await output_of(helper("cwd").cwd("/proc"));
  CHECK(there == "/proc\n");
  CHECK(std::filesystem::current_path() == before);
  const auto here = co_await output_of(helper("cwd"));
  CHECK(here == before.string() + '\n');
}

ASYNC_TEST("the environment is the parent's with changes") {
  ::setenv("COHORT_TEST_A", "parent", 1);
  ::setenv("COHORT_TEST_B", "parent", 1);
  ::setenv("COHORT_TEST_C", "parent", 1);
  auto what = helper("environment").env("COHORT_TEST_A", "child").unset_env("COHORT_TEST_B").env("COHORT_TEST_D", "=");
  what.env("COHORT_TEST_E", "x").unset_env("COHORT_TEST_E").unset_env("COHORT_TEST_F").env("COHORT_TEST_F", "");
  const auto output = co_await output_of(what);
  auto lines = lines_of(output);
  std::erase_if(lines, [](const std::string& line) {
    return !line.starts_with("COHORT_TEST_") || line.starts_with("COHORT_TEST_HELPER");
  });
  std::ranges::sort(lines);
  const std::vector<std::string> expected = {"COHORT_TEST_A=child", "COHORT_TEST_C=parent",
                                             "COHORT_TEST_D==", "COHORT_TEST_F="};
  CHECK(lines == expected);
  for (const char* name : {"COHORT_TEST_A", "COHORT_TEST_B", "COHORT_TEST_C"}) ::unsetenv(name);
}

ASYNC_TEST("a cleared environment holds what was set after that and nothing else") {
  const auto empty = co_await output_of(helper("environment").env("BEFORE", "1").clear_env());
  CHECK(empty.empty());
  const auto one = co_await output_of(helper("environment").clear_env().env("AFTER", "1"));
  CHECK(one == "AFTER=1\n");
}

ASYNC_TEST("variables can be set from a range of pairs, which after clear_env is the whole environment") {
  const std::map<std::string, std::string> map = {{"A", "1"}, {"B", ""}};
  const std::vector<std::pair<const char*, std::string_view>> pairs = {{"C", "3"}, {"A", "4"}};
  const auto whole = co_await output_of(helper("environment").clear_env().env(map).env(pairs));
  CHECK(whole == "A=4\nB=\nC=3\n");
  ::setenv("COHORT_TEST_A", "parent", 1);
  const auto added = co_await output_of(helper("env", "COHORT_TEST_A").env(map));
  CHECK(added == "parent\n");
  ::unsetenv("COHORT_TEST_A");
}

ASYNC_TEST("a line for the shell gets its values beside it") {
  const auto piped = co_await output_of(command::shell("printf 'b\\na\\n' | sort; exit 0"));
  CHECK(piped == "a\nb\n");
  const std::string hostile = "$(echo no); 'x' \"y";
  const auto values = co_await output_of(command::shell("printf '%s,%s,%s' \"$0\" \"$1\" \"$2\"", hostile, "-n"));
  CHECK(values == "sh," + hostile + ",-n");
  const auto dash = co_await output_of(command::shell("-x 2>/dev/null || echo not an option"));
  CHECK(dash == "not an option\n");
  auto failing = co_await spawn(command::shell("nope-nope").err(stdio::pipe));
  const auto complaint = co_await failing.err().read_all();
  CHECK(complaint.starts_with("sh: "));
  const auto status = co_await failing.wait();
  CHECK(status.code() == 127);
}

ASYNC_TEST("a program without a slash is searched in the PATH of the child") {
  const directory place;
  std::filesystem::create_symlink(helper_path(), place / "tool");
  const auto found = co_await output_of(command("tool", "echo", "found").env("PATH", "/nope::" + place.path()));
  CHECK(found == "found\n");

  // relative entries, and an empty one, are seen from the child's directory
  std::filesystem::create_directory(place / "bin");
  std::filesystem::create_symlink(helper_path(), place / "bin/other");
  const auto relative = co_await output_of(command("other", "cwd").env("PATH", "bin").cwd(place.path()));
  CHECK(relative == place.path() + '\n');
  const auto current = co_await output_of(command("tool", "cwd").env("PATH", "").cwd(place.path()));
  CHECK(current == place.path() + '\n');

  // without a PATH, and with an empty environment, in the system's places
  const auto unset = co_await output_of(command("echo", "x").unset_env("PATH"));
  CHECK(unset == "x\n");
  const auto cleared = co_await output_of(command("echo", "x").clear_env());
  CHECK(cleared == "x\n");
}

ASYNC_TEST("a program that is not found, or not executable, is said with its name") {
  const directory place;
  const auto missing = co_await text_of(spawn(command("nope-nope").env("PATH", "/bin:/usr/bin")));
  CHECK(missing == "spawn: find \"nope-nope\": No such file or directory");
  const auto elsewhere = co_await text_of(spawn(command("true").env("PATH", place.path())));
  CHECK(elsewhere == "spawn: find \"true\": No such file or directory");

  std::filesystem::create_directory(place / "folder");
  const auto folder = co_await text_of(spawn(command("folder").env("PATH", place.path())));
  CHECK(folder == "spawn: find \"folder\": Permission denied");
}

ASYNC_TEST("the same command can be started again and again, and its copies too") {
  const auto null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  auto original = helper("echo", "x").fd(5, descriptor(null));
  const auto copy = original;
  original.arg("y");
  const auto first = co_await output_of(original);
  const auto second = co_await output_of(original);
  const auto third = co_await output_of(copy);
  CHECK(first == "x y\n");
  CHECK(second == "x y\n");
  CHECK(third == "x\n");
}

ASYNC_TEST("a value that cannot be served is said, and nothing is started") {
  using namespace std::string_literals;
  const auto nul = "a\0b"s;
  const auto empty = co_await text_of(spawn(command("")));
  CHECK(empty == "spawn: program \"\": invalid option");
  const auto program = co_await text_of(spawn(command(nul)));
  CHECK(program == "spawn: program \"a\\0b\": invalid option");
  const auto argument = co_await text_of(spawn(command("true", nul)));
  CHECK(argument == "spawn: argument \"a\\0b\": invalid option");
  const auto name = co_await text_of(spawn(command("true").argv0(nul)));
  CHECK(name == "spawn: argv0 \"a\\0b\": invalid option");
  const auto place = co_await text_of(spawn(command("true").cwd(nul)));
  CHECK(place == "spawn: cwd \"a\\0b\": invalid option");
  const auto equals = co_await text_of(spawn(command("true").env("A=B", "c")));
  CHECK(equals == "spawn: variable \"A=B\": invalid option");
  const auto nameless = co_await text_of(spawn(command("true").unset_env("")));
  CHECK(nameless == "spawn: variable \"\": invalid option");
  const auto variable = co_await text_of(spawn(command("true").env(nul, "c")));
  CHECK(variable == "spawn: variable \"a\\0b\": invalid option");
  const auto value = co_await text_of(spawn(command("true").env("A", nul)));
  CHECK(value == "spawn: value \"a\\0b\": invalid option");
  const auto negative = co_await text_of(spawn(command("true").fd(-1, stdio::null)));
  CHECK(negative == "spawn: fd -1: invalid option");
  const auto pipe = co_await text_of(spawn(command("true").fd(3, stdio::pipe)));
  CHECK(pipe == "spawn: pipe for fd 3: invalid option");
  const auto file = co_await text_of(spawn(command("true").in(stdio::from_file(nul))));
  CHECK(file == "spawn: path \"a\\0b\": invalid option");
  const auto code = co_await error_of(spawn(command("")));
  CHECK(code == errc::invalid_option);
}

ASYNC_TEST("a child has a process group of its own unless it is to have the parent's") {
  auto own = co_await spawn(helper("group").out(stdio::pipe));
  const auto printed = co_await own.out().read_all();
  CHECK(printed == std::to_string(own.pid()) + '\n');
  co_await own.wait();
  const auto shared = co_await output_of(helper("group").process_group(process_group::inherit));
  CHECK(shared == std::to_string(::getpgrp()) + '\n');
}

ASYNC_TEST("a child is killed with its parent unless it is told otherwise") {
  const auto on = co_await output_of(helper("death-signal"));
  CHECK(on == std::to_string(SIGKILL) + '\n');
  const auto off = co_await output_of(helper("death-signal").die_with_parent(false));
  CHECK(off == "0\n");
}

}  // namespace
}  // namespace cohort::test::command_test
