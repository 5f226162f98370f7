// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/process/this_process.hpp"

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "../support/fault.hpp"
#include "children.hpp"

namespace cohort::test::this_process_test {
namespace {

std::string read_proc(pid_t pid, const char* name) {
  std::ifstream file("/proc/" + std::to_string(pid) + '/' + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// As ps shows it: what the kernel gives, up to the NULs at its end.
std::string command_line_of(pid_t pid) {
  auto line = read_proc(pid, "cmdline");
  while (line.ends_with('\0')) line.pop_back();
  return line;
}

// A child that takes a title from each line that it is sent.
class titled {
 public:
  asio::awaitable<void> start(command what) {
    child_ = co_await spawn(what.in(stdio::pipe).out(stdio::pipe));
    first_ = co_await answer();
  }

  // What the child says its title is, once it has set it.
  asio::awaitable<std::string> set(std::string title) {
    title += '\n';
    co_await child_.in().write(title);
    co_return co_await answer();
  }

  asio::awaitable<void> end() {
    child_.in().close();
    const auto status = co_await child_.wait();
    CHECK(status.success());
  }

  pid_t pid() const { return child_.pid(); }
  const std::string& first() const { return first_; }

 private:
  asio::awaitable<std::string> answer() {
    auto line = co_await child_.out().read_line();
    REQUIRE(line);
    co_return std::move(*line);
  }

  child child_;
  std::string first_;
};

ASYNC_TEST("a title is what others see as the command line and as the name") {
  titled child;
  co_await child.start(helper("title"));
  const auto title = co_await child.set("server: 17 connections");
  CHECK(title == "server: 17 connections");
  CHECK(command_line_of(child.pid()) == "server: 17 connections");
  CHECK(read_proc(child.pid(), "comm") == "server: 17 conn\n");
  co_await child.end();
}

ASYNC_TEST("before there is a title it is the command line") {
  titled child;
  co_await child.start(helper("title", "two words", ""));
  CHECK(child.first() == helper_path() + " title two words");
  CHECK(this_process::title().starts_with(command_line_of(::getpid()).c_str()));
  co_await child.end();
}

ASYNC_TEST("a title of any length about that of the arguments is shown whole, and leaves nothing of the one before") {
  titled child;
  co_await child.start(helper("title").env("ROOM", std::string(3000, 'r')));
  const auto arguments = read_proc(child.pid(), "cmdline").size();
  for (const auto length : {arguments + 100, arguments - 2, arguments - 1, arguments, arguments + 1, std::size_t(1),
                            std::size_t(2000), std::size_t(0), std::size_t(3)}) {
    CAPTURE(length);
    const std::string wanted(length, static_cast<char>('a' + length % 26));
    const auto title = co_await child.set(wanted);
    CHECK(title == wanted);
    CHECK(command_line_of(child.pid()) == wanted);
  }
  co_await child.end();
}

ASYNC_TEST("a title has the room of the arguments and the environment, and is cut to it") {
  titled child;
  co_await child.start(helper("title", "x").clear_env().env("A", "B"));
  const auto room = read_proc(child.pid(), "cmdline").size() + std::string("A=B").size();
  const auto title = co_await child.set(std::string(room, 'c') + "over the end");
  CHECK(title == std::string(room, 'c'));
  CHECK(command_line_of(child.pid()) == title);
  co_await child.end();
}

ASYNC_TEST("without an environment a title has the room of the arguments") {
  titled child;
  co_await child.start(helper("title").clear_env());
  const auto room = read_proc(child.pid(), "cmdline").size() - 1;
  const auto title = co_await child.set(std::string(5000, 'c'));
  CHECK(title == std::string(room, 'c'));
  CHECK(command_line_of(child.pid()) == title);
  co_await child.end();
}

ASYNC_TEST("a title has 4095 bytes at most") {
  titled child;
  co_await child.start(helper("title").env("ROOM", std::string(9000, 'r')));
  const auto title = co_await child.set(std::string(8000, 'c'));
  CHECK(title == std::string(4095, 'c'));
  CHECK(command_line_of(child.pid()) == title);
  co_await child.end();
}

ASYNC_TEST("arguments, names and environment are what they were, however long the title") {
  command given = helper("after-title", "one", "");
  given.argv0("dir/name").clear_env().env("VARIABLE", "its value").env("REMOVED", "1");
  const auto output = co_await output_of(std::move(given));
  CHECK(output ==
        "argument dir/name\nargument after-title\nargument one\nargument \n"
        "word dir/name\nword after-title\nword one\nword \n"
        "name dir/name name\n"
        "variable VARIABLE=its value\nvariable ADDED=later\n"
        "getenv its value\n"
        "inherited its value later\n");
}

PLAIN_TEST("a title with a NUL is refused") {
  const auto before = this_process::title();
  try {
    this_process::set_title(std::string_view("a\0b", 3));
    FAIL("not refused");
  } catch (const std::system_error& error) {
    CHECK(error.code() == errc::invalid_option);
    CHECK(std::string(error.what()) == "this_process: a title with a NUL: invalid option");
  }
  CHECK(this_process::title() == before);
}

ASYNC_TEST("the uptime counts from the start of the process") {
  const auto before = std::chrono::steady_clock::now();
  const auto output = co_await output_of(helper("uptime"));
  const auto passed = std::chrono::steady_clock::now() - before;
  const std::chrono::milliseconds said(std::stol(output));
  CHECK(said >= 0ms);
  CHECK(said <= passed + 20ms);  // the kernel's ticks are of 10 ms

  const auto first = this_process::uptime();
  co_await sleep(30ms);
  const auto second = this_process::uptime();
  CHECK(second >= first + 20ms);
}

ASYNC_TEST("a program that was started by a link of /proc has its own name in ps") {
  const descriptor file(::open(helper_path().c_str(), O_PATH | O_CLOEXEC));
  const auto link = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(file.get());
  const auto by_link = co_await output_of(command(link, "own-name").argv0("/usr/bin/my-server"));
  CHECK(by_link == "my-server\n");
  const auto by_path = co_await output_of(helper("own-name").argv0("other"));
  CHECK(by_path == "helper\n");
}

PLAIN_TEST("without /proc there is an error, and the title stays") {
  const fault<&system::calls::open> nothing(ENOENT, 1, every_time);
  CHECK_THROWS_WITH_AS(this_process::title(), "this_process: open /proc/self/cmdline: No such file or directory",
                       std::system_error);
  CHECK_THROWS_WITH_AS(this_process::set_title("new"), "this_process: open /proc/self/stat: No such file or directory",
                       std::system_error);
  CHECK_THROWS_AS(this_process::uptime(), std::system_error);
}

}  // namespace
}  // namespace cohort::test::this_process_test
