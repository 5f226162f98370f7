// SPDX-License-Identifier: BSL-1.0
#include "../../../include/cohort/cluster/service/sd_notify.hpp"

#include <cerrno>
#include <chrono>
#include <ctime>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "../../process/directory.hpp"
#include "../../support/fault.hpp"
#include "manager.hpp"

namespace cohort::test::sd_notify_test {
namespace {

template <class Function>
std::string failure_of(Function function) {
  try {
    function();
  } catch (const std::system_error& error) {
    return error.what();
  }
  return {};
}

PLAIN_TEST("without a manager nothing is sent, and nothing is wrong") {
  const fault<&system::calls::sendmsg> counted(0, 1, 0);
  const fault<&system::calls::socket> sockets(0, 1, 0);
  sd_notifier manager;
  CHECK_FALSE(manager);
  manager.ready();
  manager.reloading();
  manager.stopping();
  manager.status("well");
  manager.watchdog();
  manager.main_pid(1);
  CHECK_FALSE(manager.watchdog_interval());
  CHECK(counted.calls() == 0);
  CHECK(sockets.calls() == 0);
}

PLAIN_TEST("a manager hears what sd_notify(3) says, at a path or an abstract name") {
  const directory scratch;
  for (const auto& path : {std::string(), scratch / "notify"}) {
    const notify_socket socket(path);
    const variable notify("NOTIFY_SOCKET", socket.name());
    sd_notifier manager;
    CHECK(manager);
    manager.ready();
    CHECK(socket.next() == "READY=1");
    manager.stopping();
    CHECK(socket.next() == "STOPPING=1");
    manager.status("4 of 4 serve");
    CHECK(socket.next() == "STATUS=4 of 4 serve");
    manager.watchdog();
    CHECK(socket.next() == "WATCHDOG=1");
    manager.main_pid(4711);
    CHECK(socket.next() == "MAINPID=4711");
    CHECK(socket.next() == "(nothing)");
  }
}

PLAIN_TEST("a reload carries the time of the monotonic clock") {
  const notify_socket socket;
  const variable notify("NOTIFY_SOCKET", socket.name());
  sd_notifier manager;
  const auto now = [] {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1'000'000ll + time.tv_nsec / 1'000;
  };
  const auto before = now();
  manager.reloading();
  const auto after = now();
  const std::string text = socket.next(), start = "RELOADING=1\nMONOTONIC_USEC=";
  REQUIRE(text.starts_with(start));
  const auto said = std::stoll(text.substr(start.size()));
  CHECK(before <= said);
  CHECK(said <= after);
}

PLAIN_TEST("a status is one line, so that it cannot say anything else") {
  const notify_socket socket;
  const variable notify("NOTIFY_SOCKET", socket.name());
  sd_notifier manager;
  manager.status("bad\nREADY=1\r\nMAINPID=1");
  CHECK(socket.next() == "STATUS=bad READY=1  MAINPID=1");
  manager.status("");
  CHECK(socket.next() == "STATUS=");
}

PLAIN_TEST("the variables are gone once they are taken, whoever they are for") {
  const notify_socket socket;
  for (const auto pid : {::getpid(), ::getpid() + 1}) {
    const variable notify("NOTIFY_SOCKET", socket.name()), interval("WATCHDOG_USEC", "3000000"),
        of("WATCHDOG_PID", std::to_string(pid));
    const sd_notifier manager;
    for (const auto* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) CHECK(::getenv(name) == nullptr);
    CHECK(static_cast<bool>(manager.watchdog_interval()) == (pid == ::getpid()));
    CHECK_FALSE(sd_notifier());
  }
}

PLAIN_TEST("the watchdog has an interval if it is meant for this process") {
  {
    const variable interval("WATCHDOG_USEC", "1500000");
    CHECK(sd_notifier().watchdog_interval() == std::chrono::microseconds(1'500'000));
  }
  CHECK_FALSE(sd_notifier().watchdog_interval());
  const variable of("WATCHDOG_PID", std::to_string(::getpid()));
  CHECK_FALSE(sd_notifier().watchdog_interval());
}

PLAIN_TEST("a variable that makes no sense is an error that names it, and stays") {
  const std::pair<const char*, std::string> cases[] = {
      {"NOTIFY_SOCKET", "relative/path"},
      {"NOTIFY_SOCKET", "/"},
      {"NOTIFY_SOCKET", "@"},
      {"NOTIFY_SOCKET", "vsock:2:1234"},
      {"WATCHDOG_USEC", ""},
      {"WATCHDOG_USEC", "0"},
      {"WATCHDOG_USEC", "-1"},
      {"WATCHDOG_USEC", "1s"},
      {"WATCHDOG_USEC", " 1"},
      {"WATCHDOG_USEC", "18446744073709551615"},
      {"WATCHDOG_USEC", "99999999999999999999"},
      {"WATCHDOG_PID", "me"},
      {"WATCHDOG_PID", "0"},
      {"NOTIFY_SOCKET", "/" + std::string(107, 'x')},
  };
  for (const auto& [name, value] : cases) {
    const variable one(name, value);
    CHECK(failure_of([] { sd_notifier(); }) ==
          "service manager: " + std::string(name) + "=" + value + ": invalid option");
    CHECK(::getenv(name) == value);
  }
  const variable fits("NOTIFY_SOCKET", "/" + std::string(106, 'x'));
  CHECK(sd_notifier());
}

PLAIN_TEST("a message that does not get through is an error that names it, and may be sent again") {
  notify_socket socket;
  const variable notify("NOTIFY_SOCKET", socket.name());
  sd_notifier manager;
  {
    const fault<&system::calls::sendmsg> busy(EAGAIN);
    CHECK(failure_of([&] { manager.ready(); }) == "service manager: send READY=1: Resource temporarily unavailable");
    manager.ready();
    CHECK(socket.next() == "READY=1");
  }
  {
    const fault<&system::calls::sendmsg> interrupted(EINTR, 1, 2);
    manager.stopping();
    CHECK(socket.next() == "STOPPING=1");
    CHECK(interrupted.calls() == 3);
  }
  socket.close();
  CHECK(failure_of([&] { manager.reloading(); }) == "service manager: send RELOADING=1: Connection refused");
}

PLAIN_TEST("a manager that takes nothing does not hold the service up") {
  const notify_socket socket;
  const variable notify("NOTIFY_SOCKET", socket.name());
  sd_notifier manager;
  std::string said;
  for (int i = 0; i < 100'000 && said.empty(); ++i) said = failure_of([&] { manager.watchdog(); });
  CHECK(said == "service manager: send WATCHDOG=1: Resource temporarily unavailable");
}

PLAIN_TEST("no descriptor is left when there is none to be had") {
  const notify_socket socket;
  const variable notify("NOTIFY_SOCKET", socket.name());
  const fault<&system::calls::socket> full(EMFILE);
  CHECK(failure_of([] { sd_notifier(); }) == "service manager: socket: Too many open files");
  CHECK(::getenv("NOTIFY_SOCKET") == socket.name());
}

PLAIN_TEST("a manager moves to another object with its socket") {
  const notify_socket socket;
  const variable notify("NOTIFY_SOCKET", socket.name());
  sd_notifier first;
  sd_notifier second(std::move(first));
  second.ready();
  CHECK(socket.next() == "READY=1");
}

}  // namespace
}  // namespace cohort::test::sd_notify_test
