// SPDX-License-Identifier: BSL-1.0
// What tests of this_process.hpp, pid_file.hpp and daemonize.hpp have a child do.
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>

#include <sys/stat.h>
#include <unistd.h>

#include "../../include/cohort/process/daemonize.hpp"
#include "../../include/cohort/process/this_process.hpp"
#include "../../include/cohort/process/detail/own_program.hpp"
#include "verb.hpp"

namespace cohort::test::this_process_verbs {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

// Says its title, and then takes a new one from each line of input and says what has become of it.
const verb title("title", [](const verb::arguments&) {
  std::cout << this_process::title() << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    this_process::set_title(line);
    std::cout << this_process::title() << std::endl;
  }
  return 0;
});

// All that it was started with, as it finds it after its title has taken the place: arguments, names, environment.
const verb after_title("after-title", [](const verb::arguments&) {
  this_process::set_title(std::string(10'000, 'x'));
  for (char** each = main_arguments; *each != nullptr; ++each) std::printf("argument %s\n", *each);
  for (const auto& word : detail::own_arguments()) std::printf("word %s\n", word.c_str());
  std::printf("name %s %s\n", program_invocation_name, program_invocation_short_name);
  ::setenv("ADDED", "later", 1);
  ::unsetenv("REMOVED");
  for (char** each = environ; *each != nullptr; ++each) std::printf("variable %s\n", *each);
  std::printf("getenv %s\n", std::getenv("VARIABLE"));
  std::fflush(stdout);
  return std::system("echo inherited $VARIABLE $ADDED $REMOVED");
});

const verb uptime("uptime", [](const verb::arguments&) {
  std::printf("%lld\n", static_cast<long long>(this_process::uptime().count()));
  return 0;
});

// Takes a pid file and holds it until its input ends. 75 and the reason if it is taken.
const verb hold_pid_file("hold-pid-file", [](const verb::arguments& arguments) {
  try {
    const pid_file mine(arguments.at(0));
    std::printf("held\n");
    std::fflush(stdout);
    char end;
    while (::read(STDIN_FILENO, &end, 1) > 0) {
    }
  } catch (const std::system_error& error) {
    std::printf("%s\n", error.what());
    return error.code() == errc::already_running ? 75 : 70;
  }
  return 0;
});

void say_facts() {
  const mode_t mask = ::umask(0);
  ::umask(mask);
  std::printf("pid %d session %d group %d\n", ::getpid(), ::getsid(0), ::getpgrp());
  std::printf("cwd %s\n", fs::current_path().c_str());
  std::printf("umask %03o\n", static_cast<unsigned>(mask));
  for (const auto& word : detail::own_arguments()) std::printf("word %s\n", word.c_str());
  std::printf("marker %s\n", std::getenv("COHORT_DAEMON_FD") ? "left" : "gone");
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const auto target = fs::read_symlink(entry.path(), gone).string();
    const auto number = entry.path().filename().string();
    if (!gone && target.find("/fd") == target.npos) std::printf("fd %s %s\n", number.c_str(), target.c_str());
  }
  std::printf("facts end\n");
  std::fflush(stdout);
  std::fprintf(stderr, "an error line\n");
}

// So that no thread of the process, neither this one nor one that it starts, dies of SIGTERM.
sigset_t blocked_term() {
  sigset_t term;
  ::sigemptyset(&term);
  ::sigaddset(&term, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &term, nullptr);
  return term;
}

// daemon END OPTION=VALUE…: says facts to its output before it does what END is.
//
//     ready          is ready, and stays until SIGTERM
//     when PATH      is ready when that path exists
//     failed TEXT    fails
//     exit N         exits before it is ready
//     kill           is killed before it is ready
//     late           never gets ready
//     lose           forgets the daemon and stays
//     twice          calls daemonize again, and fails with what that throws
int run_daemon(const std::string& end, const std::string& detail, std::map<std::string, std::string>& given) {
  this_process::daemon_options options;
  if (given.contains("pid")) options.pid_file = given["pid"];
  if (given.contains("out")) options.out = given["out"];
  if (given.contains("err")) options.err = given["err"];
  if (given.contains("cwd")) options.cwd = given["cwd"];
  if (given.contains("umask")) options.umask = static_cast<mode_t>(std::stoul(given["umask"], nullptr, 8));
  if (given.contains("within")) options.ready_within = std::chrono::milliseconds(std::stol(given["within"]));
  if (given.contains("title")) this_process::set_title(given["title"]);
  if (given.contains("early")) return std::stoi(given["early"]);

  auto self = this_process::daemonize(options);
  say_facts();
  if (end == "when") {
    while (!fs::exists(detail)) std::this_thread::sleep_for(1ms);
  } else if (end == "failed") {
    self.failed(detail == "NUL" ? std::string_view("\0x", 2) : std::string_view(detail));
    return 1;
  } else if (end == "exit") {
    return std::stoi(detail);
  } else if (end == "kill") {
    ::raise(SIGKILL);
  } else if (end == "twice") {
    try {
      self = this_process::daemonize(options);
    } catch (const std::system_error& error) {
      self.failed(error.what());
    }
    return 1;
  }
  if (end == "lose") self = {};
  if (end != "late") {
    self.ready();
    self.ready();
    self.failed("too late");
  }
  int signal = 0;
  const sigset_t term = blocked_term();
  ::sigwait(&term, &signal);
  return 0;
}

const verb daemon("daemon", [](const verb::arguments& arguments) {
  std::map<std::string, std::string> given;
  std::string detail;
  for (const auto& argument : verb::arguments(arguments.begin() + 1, arguments.end())) {
    const auto equals = argument.find('=');
    if (equals == argument.npos) {
      detail = argument;
    } else {
      given[argument.substr(0, equals)] = argument.substr(equals + 1);
    }
  }
  blocked_term();
  if (given.contains("thread")) std::thread([] { std::this_thread::sleep_for(1h); }).detach();
  return run_daemon(arguments.at(0), detail, given);
});

// Says the name that ps shows of it, once it has given itself its own.
const verb own_name("own-name", [](const verb::arguments&) {
  detail::show_own_name();
  std::ifstream file("/proc/self/comm");
  std::string name;
  std::getline(file, name);
  std::printf("%s\n", name.c_str());
  return 0;
});

}  // namespace
}  // namespace cohort::test::this_process_verbs
