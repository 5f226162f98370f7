// SPDX-License-Identifier: BSL-1.0
/// What the kernel knows of this process: the program, its arguments, and the memory that they stand in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../command.hpp"

namespace cohort::detail {

/// A whole file of /proc/self.
std::string read_own(const char* path);

/// The numbers of /proc/self/stat, by their places in proc(5), which count from 1.
class own_stat {
 public:
  own_stat();

  /// For a place from 4 on that is never negative.
  std::uint64_t operator[](std::size_t place) const { return std::stoull(arguments_.at(place - 3)); }

 private:
  std::vector<std::string> arguments_;
};

/// The memory that the kernel shows as the command line of this process. The environment stands right behind it.
///
/// There is one in a process: to be used by one thread at a time.
class argument_area {
 public:
  /// The arguments as the program was started with them, each with a NUL at its end.
  static std::string arguments();

  static bool overwritten() noexcept { return saved_ != nullptr; }

  /// What stands there, if it has been overwritten.
  static std::string text() { return size_ == 0 ? std::string() : std::string(begin_); }

  /// Puts a text without a NUL into the place of the arguments and the environment, or as much of it as fits.
  static void overwrite(std::string_view text);

 private:
  static void move_away();

  static inline char* begin_ = nullptr;
  static inline std::size_t size_ = 0;
  static inline char* saved_ = nullptr;  // what stood there; null: it still does
  static inline std::size_t arguments_size_ = 0;
};

/// What this program was started with, its name first; whatever its title is now.
std::vector<std::string> own_arguments();

/// The running program, as a command. Its file may be replaced at any time, so each start asks again.
command own_command(const std::vector<std::string>& arguments);

/// Gives this process the name of its program in ps, if it was started by a link of /proc, which is then its name
/// ("exe").
void show_own_name() noexcept;

/// A version of the running program, which can be started also when its file has been replaced since.
///
/// The path is the one by which the program was started, with the links in it: where a release is the target of the
/// link `current`, what is there next is the next release.
///
/// Distinct objects: safe. Shared objects: unsafe.
class program_version {
 public:
  /// The one that runs.
  program_version();

  /// What is at its path now. Throws if that cannot be opened.
  program_version on_disk() const;

  command start() const;

  /// The file that start() executes, without links in its path.
  std::string file() const;

 private:
  program_version(std::vector<std::string> arguments, std::string path)
      : arguments_(std::move(arguments)), path_(std::move(path)) {}

  static descriptor open(const std::string& path);
  static std::string started_path();
  static std::string target_of(const std::string& link);

  std::vector<std::string> arguments_;
  std::string path_;
  descriptor file_;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "own_program.ipp"
#endif
