// SPDX-License-Identifier: BSL-1.0
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <system_error>
#include <thread>

#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include "verb.hpp"

namespace cohort::test::basic_verbs {
namespace {

void sleep_for(const std::string& milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(std::stol(milliseconds)));
}

const verb exit_code("exit-code", [](const verb::arguments& arguments) { return std::stoi(arguments.at(0)); });

const verb sleeping("sleep", [](const verb::arguments& arguments) {
  sleep_for(arguments.at(0));
  return 0;
});

const verb echo("echo", [](const verb::arguments& arguments) {
  const char* separator = "";
  for (const auto& argument : arguments) std::printf("%s%s", std::exchange(separator, " "), argument.c_str());
  std::printf("\n");
  return 0;
});

const verb cat("cat", [](const verb::arguments&) {
  char buffer[1 << 16];
  for (;;) {
    const auto size = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (size == 0) return 0;
    if (size < 0) throw std::system_error(errno, std::system_category(), "read");
    for (ssize_t written = 0; written < size;) {
      const auto more = ::write(STDOUT_FILENO, buffer + written, static_cast<std::size_t>(size - written));
      if (more < 0) throw std::system_error(errno, std::system_category(), "write");
      written += more;
    }
  }
});

const verb env("env", [](const verb::arguments& arguments) {
  const char* value = std::getenv(arguments.at(0).c_str());
  if (value == nullptr) return 1;
  std::printf("%s\n", value);
  return 0;
});

const verb cwd("cwd", [](const verb::arguments&) {
  std::printf("%s\n", std::filesystem::current_path().c_str());
  return 0;
});

const verb fds("fds", [](const verb::arguments&) {
  std::set<int> open;
  DIR* directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) throw std::system_error(errno, std::system_category(), "/proc/self/fd");
  while (const dirent* entry = ::readdir(directory)) {
    if (entry->d_name[0] != '.') open.insert(std::atoi(entry->d_name));
  }
  open.erase(::dirfd(directory));
  ::closedir(directory);
  for (const int fd : open) std::printf("%d\n", fd);
  return 0;
});

const verb raising("raise", [](const verb::arguments& arguments) {
  ::raise(std::stoi(arguments.at(0)));
  return 0;
});

// Says "ready" once a SIGTERM no longer ends it.
const verb ignore_term("ignore-term", [](const verb::arguments& arguments) {
  ::signal(SIGTERM, SIG_IGN);
  std::printf("ready\n");
  std::fflush(stdout);
  sleep_for(arguments.at(0));
  return 0;
});

}  // namespace
}  // namespace cohort::test::basic_verbs
