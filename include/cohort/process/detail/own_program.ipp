// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "own_program.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <sstream>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../core/system.hpp"

namespace cohort::detail {

COHORT_INLINE std::string read_own(const char* path) {
  const descriptor file(system::retry(system::call.open, path, O_RDONLY | O_CLOEXEC, mode_t(0)));
  if (!file) throw_error(fmt::format("this_process: open {}", path), errno);
  std::string text;
  for (;;) {
    char piece[4096];
    const auto size = system::retry(::read, file.get(), static_cast<void*>(piece), sizeof piece);
    if (size < 0) throw_error(fmt::format("this_process: read {}", path), errno);
    if (size == 0) return text;
    text.append(piece, static_cast<std::size_t>(size));
  }
}

COHORT_INLINE own_stat::own_stat() {
  const auto text = read_own("/proc/self/stat");
  // The name in the second place may hold anything, spaces and parentheses too.
  std::istringstream rest(text.substr(text.rfind(')') + 1));
  for (std::string argument; rest >> argument;) arguments_.push_back(std::move(argument));
}

COHORT_INLINE std::string argument_area::arguments() {
  return saved_ == nullptr ? read_own("/proc/self/cmdline") : std::string(saved_, arguments_size_);
}

COHORT_INLINE void argument_area::overwrite(std::string_view text) {
  if (!overwritten()) move_away();
  if (size_ == 0) return;
  constexpr std::size_t largest = 4096;  // a page of any machine: the kernel shows no more of a text that is longer
                                         // than the arguments were (get_mm_proctitle in fs/proc/base.c)
  const auto length = std::min({text.size(), size_ - 1, largest - 1});
  std::memcpy(begin_, text.data(), length);
  std::memset(begin_ + length, 0, size_ - length);
}

COHORT_INLINE void argument_area::move_away() {
  enum place { start_of_stack = 28, start_of_arguments = 48, end_of_arguments, start_of_environment, end };
  const own_stat stat;
  const auto begin = stat[start_of_arguments];
  arguments_size_ = static_cast<std::size_t>(stat[end_of_arguments] - begin);
  const bool together = stat[start_of_environment] == stat[end_of_arguments];
  size_ = together ? static_cast<std::size_t>(stat[end] - begin) : arguments_size_;
  begin_ = reinterpret_cast<char*>(static_cast<std::uintptr_t>(begin));
  auto* const saved = new char[size_];  // for ever: the environment is read until the process ends
  std::memcpy(saved, begin_, size_);

  const auto move = [saved](char*& string) {
    const auto offset = reinterpret_cast<std::uintptr_t>(string) - reinterpret_cast<std::uintptr_t>(begin_);
    if (offset < size_) string = saved + offset;
  };
  const auto move_all = [&move](char** strings) {
    for (; strings != nullptr && *strings != nullptr; ++strings) move(*strings);
  };
  // What a program starts with (System V ABI): at the bottom of the stack the number of arguments, then main's argv.
  auto** const stack = reinterpret_cast<char**>(static_cast<std::uintptr_t>(stat[start_of_stack]));
  if (stack != nullptr) move_all(stack + 1);
  move_all(environ);
  move(program_invocation_name);
  move(program_invocation_short_name);
  saved_ = saved;
}

COHORT_INLINE std::vector<std::string> own_arguments() {
  std::istringstream area(argument_area::arguments());
  std::vector<std::string> arguments;
  for (std::string argument; std::getline(area, argument, '\0');) arguments.push_back(std::move(argument));
  return arguments;
}

COHORT_INLINE command own_command(const std::vector<std::string>& arguments) {
  // By its path, so that the process has the program's name in ps; by the inode that runs, when that is another one.
  std::string path(4096, '\0');
  const auto size = ::readlink("/proc/self/exe", path.data(), path.size());
  path.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  struct stat running = {};
  struct stat found = {};
  const bool same = ::stat("/proc/self/exe", &running) == 0 && ::stat(path.c_str(), &found) == 0 &&
                    running.st_dev == found.st_dev && running.st_ino == found.st_ino;
  command result(same ? path : std::string("/proc/self/exe"));
  if (!arguments.empty()) {
    result.argv0(arguments.front());
    result.args(std::vector<std::string>(arguments.begin() + 1, arguments.end()));
  }
  return result;
}

COHORT_INLINE void show_own_name() noexcept {
  constexpr int get_name = 16, set_name = 15;  // PR_GET_NAME, PR_SET_NAME
  char name[16] = {};
  ::prctl(get_name, name);
  const std::string_view now(name);
  if (now != "exe" && now.find_first_not_of("0123456789") != now.npos) return;
  const char* const started_as = program_invocation_short_name;
  if (*started_as != '\0') ::prctl(set_name, started_as);
}

COHORT_INLINE program_version::program_version()
    : arguments_(own_arguments()), path_(started_path()), file_(open("/proc/self/exe")) {}

COHORT_INLINE std::string program_version::started_path() {
  const auto* const given = reinterpret_cast<const char*>(::getauxval(AT_EXECFN));
  struct stat running = {};
  struct stat found = {};
  // Relative to where the program was started, which it may have left: then it is not there.
  if (given != nullptr && ::stat("/proc/self/exe", &running) == 0 && ::stat(given, &found) == 0 &&
      running.st_dev == found.st_dev && running.st_ino == found.st_ino) {
    const std::string absolute = std::filesystem::absolute(given).lexically_normal().string();
    if (!absolute.starts_with("/proc/") && !absolute.starts_with("/dev/fd/")) return absolute;
  }
  return target_of("/proc/self/exe");
}

COHORT_INLINE std::string program_version::target_of(const std::string& link) {
  std::string path(4096, '\0');
  const auto size = ::readlink(link.c_str(), path.data(), path.size());
  path.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  // What the kernel puts behind the name of a file that is gone (proc(5)): where its successor should be.
  constexpr std::string_view gone = " (deleted)";
  if (path.ends_with(gone)) path.resize(path.size() - gone.size());
  return path;
}

COHORT_INLINE std::string program_version::file() const {
  return target_of(fmt::format("/proc/self/fd/{}", file_.get()));
}

COHORT_INLINE program_version program_version::on_disk() const {
  program_version result(arguments_, path_);
  result.file_ = open(path_);
  return result;
}

COHORT_INLINE command program_version::start() const {
  struct stat wanted = {};
  struct stat found = {};
  // By its path if that is it, so that the process has the program's name in ps.
  const bool same = ::fstat(file_.get(), &wanted) == 0 && ::stat(path_.c_str(), &found) == 0 &&
                    wanted.st_dev == found.st_dev && wanted.st_ino == found.st_ino;
  command result(path_);
  if (!same) {
    // Not by a path of /proc: what is below a process's directory there, another user may not open.
    descriptor copy(system::call.duplicate(file_.get(), 0));
    if (!copy) throw_error(fmt::format("own program: open {}", path_), errno);
    result.file(std::make_shared<const descriptor>(std::move(copy)));
  }
  if (!arguments_.empty()) {
    result.argv0(arguments_.front());
    result.args(std::vector<std::string>(arguments_.begin() + 1, arguments_.end()));
  }
  return result;
}

COHORT_INLINE descriptor program_version::open(const std::string& path) {
  descriptor result(system::retry(system::call.open, path.c_str(), O_PATH | O_CLOEXEC, mode_t(0)));
  if (!result) throw_error(fmt::format("own program: open {}", path), errno);
  return result;
}

}  // namespace cohort::detail
