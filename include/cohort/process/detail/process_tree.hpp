// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <fmt/format.h>
#include <sys/types.h>

#include "../../core/error.hpp"
#include "../../core/system.hpp"

namespace cohort::detail {

/// What the kernel tells about a process or a thread (proc_pid_stat(5)).
struct process_record {
  pid_t pid = 0, parent = 0, group = 0, session = 0;
  char state = '?';
  long threads = 0;
  unsigned long long start = 0;  // in clock ticks since boot

  /// Whether it runs no code of its own that could start a process: stopped, traced or dead. Or waiting in the kernel,
  /// as the parent of a vfork does until its child, which is here as well, has executed a program.
  bool at_rest() const noexcept { return std::strchr("TtZXD", state) != nullptr; }
};

/// Whether a call has failed because this process, or the machine, has run out of something.
inline bool lacks_resources() noexcept { return errno == EMFILE || errno == ENFILE || errno == ENOMEM; }

/// Reads `<directory>/stat`. Empty if there is no such process, or none that may be seen.
std::optional<process_record> read_process(const std::string& directory);

/// Reads the processes of /proc, or the threads of /proc/<pid>/task. Empty if the directory is not there.
std::vector<process_record> read_processes(const std::string& directory);

/// A process, its descendants, and the group and the session that it leads: one signal to all of them.
///
/// They come and go meanwhile, and their numbers may come to mean other processes. So whoever is found is stopped, and
/// /proc is read again until all stand still and nobody new appears; and whoever gets a signal is held by a pidfd first
/// and then compared by its start time, which no later owner of its number has.
class process_tree {
 public:
  /// `pidfd` is the root's, which must not have been reaped.
  process_tree(pid_t root, int pidfd) : root_(root), pidfd_(pidfd) {}

  /// False if the root refuses the signal (EPERM). When this throws, some may have got the signal, and nobody stays
  /// stopped.
  bool signal(int number);

 private:
  using clock = std::chrono::steady_clock;

  struct member {
    pid_t pid;
    unsigned long long start;
    bool stopped;
  };

  enum class answer { sent, refused, gone };

  // Finds every process that is a part of the tree now, parents before their children.
  void stop();

  bool at_rest() const;

  // Adds those who are not known yet; false if there are none.
  bool grow(const std::vector<process_record>& all);

  bool is_child(const process_record& process) const;

  bool is_mate(const process_record& process) const;

  // Whether the root's number still is its own.
  bool owns_number() const { return system::call.pidfd_send_signal(pidfd_, 0) == 0 || errno == EPERM; }

  void add(const process_record& process);

  const member* find(const process_record& process) const;

  void resume() noexcept;

  answer send(const member& process, int number) const;

  answer send_to_root(int number) const;

  static bool is_there(const member& process);

  static std::string directory(pid_t pid) { return fmt::format("/proc/{}", pid); }

  pid_t root_;
  int pidfd_;
  bool leads_group_ = false;
  std::vector<member> members_;
  std::unordered_map<pid_t, std::size_t> index_;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "process_tree.ipp"
#endif
