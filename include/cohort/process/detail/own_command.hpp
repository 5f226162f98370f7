// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <fstream>
#include <ios>
#include <string>
#include <utility>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>

#include "../command.hpp"

namespace cohort::detail {

/// What this program was started with, its name first.
inline std::vector<std::string> own_words() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> words;
  for (std::string word; std::getline(file, word, '\0');) words.push_back(std::move(word));
  return words;
}

/// The running program, as a command. Its file may be replaced at any time, so each start asks again.
inline command own_command(const std::vector<std::string>& words) {
  // By its path, so that the child has the program's name in ps; by the inode that runs, when that is another one.
  std::string path(4096, '\0');
  const auto size = ::readlink("/proc/self/exe", path.data(), path.size());
  path.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  struct stat running = {};
  struct stat found = {};
  const bool same = ::stat("/proc/self/exe", &running) == 0 && ::stat(path.c_str(), &found) == 0 &&
                    running.st_dev == found.st_dev && running.st_ino == found.st_ino;
  command result(same ? path : std::string("/proc/self/exe"));
  if (!words.empty()) {
    result.argv0(words.front());
    result.args(std::vector<std::string>(words.begin() + 1, words.end()));
  }
  return result;
}

}  // namespace cohort::detail
