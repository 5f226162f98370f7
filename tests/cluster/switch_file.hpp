// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include <unistd.h>

namespace cohort::test {

/// A file that workers started with `broken-by=PATH` fail at, once it is there.
class switch_file {
 public:
  switch_file() : path_(std::filesystem::temp_directory_path() / ("cohort-broken-" + std::to_string(::getpid()))) {
    std::filesystem::remove(path_);
  }
  ~switch_file() { std::filesystem::remove(path_); }
  void on() { std::ofstream(path_) << "on"; }
  void off() { std::filesystem::remove(path_); }
  std::string argument() const { return "broken-by=" + path_.string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace cohort::test
