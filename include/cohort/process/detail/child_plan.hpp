// SPDX-License-Identifier: BSL-1.0
/// The child between clone and execve: what it is told, and what it does.
///
/// It runs on the parent's memory, with the parent's thread stopped. So it must not change anything that the parent
/// would miss (heap, locks, buffers), and may call nothing but the kernel.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "../../core/system.hpp"

namespace cohort::detail {

/// A set of signals as the kernel takes it.
struct signal_set {
  std::uint64_t bits[2] = {};
  static constexpr std::size_t size = NSIG / 8;

  void add(int signal) noexcept { bits[(signal - 1) / 64] |= std::uint64_t(1) << (signal - 1) % 64; }
};

/// A set of processors as the kernel takes it.
struct processor_set {
  static constexpr int capacity = 8192;  // the most that Linux can be configured for (CONFIG_NR_CPUS)
  static constexpr int bits_a_word = 8 * sizeof(unsigned long);
  unsigned long words[capacity / bits_a_word] = {};

  void add(int processor) noexcept { words[processor / bits_a_word] |= 1ul << processor % bits_a_word; }
};

/// What the child needs, and where it reports the step that failed. An empty pointer or optional: leave it as it is.
struct child_plan {  // a member for each step that there may be
  enum class step {
    none,
    ignore_signal,
    new_session,
    process_group,
    nice,
    io_priority,
    affinity,
    close_others,
    move,
    connect,
    limit,
    groups,
    group,
    user,
    no_new_privileges,
    death_signal,
    chdir,
    exec,
  };

  struct connection {
    int source, target;
  };

  struct limit {
    int resource;
    rlimit value;
  };

  /// A range, as the child may use it in any build: no checks and no calls inside.
  template <class T>
  struct list {
    T* data = nullptr;
    std::size_t size = 0;

    T* begin() const noexcept { return data; }
    T* end() const noexcept { return data + size; }
  };

  const char* path = nullptr;
  int file = -1;  // what is executed in the place of `path`; no connection has this number
  char* const* argv = nullptr;
  char* const* envp = nullptr;
  const char* cwd = nullptr;
  list<connection> connections;  // sorted by target
  list<const int> open;          // all that are open, where close_range is refused
  list<const int> ignored_signals;
  signal_set blocked_signals;
  bool new_session = false;
  std::optional<pid_t> process_group;  // 0: its own
  std::optional<int> nice, io_priority;
  const processor_set* processors = nullptr;
  std::optional<mode_t> umask;
  list<const limit> limits;
  bool set_groups = false;
  list<const gid_t> groups;
  std::optional<gid_t> group;
  std::optional<uid_t> user;
  bool no_new_privileges = false;
  bool die_with_parent = false;
  pid_t parent = 0;

  step failed = step::none;
  int error = 0;
  connection failed_connection{-1, -1};
  int failed_item = -1;  // the signal; the processor, -1 for all; the place of the limit
};

/// The child's side of a launch. No sanitizer may instrument it: it leaves its frames without returning, on memory that
/// the parent goes on to use.
class child_process {
 public:
  __attribute__((no_sanitize("address", "undefined", "thread"))) static int run(void* argument) noexcept {
    auto& plan = *static_cast<child_plan*>(argument);
    plan.failed = prepare(plan);
    if (plan.failed == step::none) {
      if (plan.file != -1) {
        system::call.execute_file(plan.file, plan.argv, plan.envp);
      } else {
        system::call.execve(plan.path, plan.argv, plan.envp);
      }
      plan.failed = step::exec;
    }
    plan.error = errno;
    return 127;  // clone(2) makes it _exit(127)
  }

 private:
  using step = child_plan::step;

  // The order: descriptors while their numbers are still within the limits; what takes privileges before these are
  // given up; what a change of user takes back (the death signal) and what the user may not see (the directory) after.
  __attribute__((no_sanitize("address", "undefined", "thread"))) static step prepare(child_plan& plan) noexcept {
    if (!reset_signals(plan)) return step::ignore_signal;
    if (plan.new_session && system::call.setsid() == -1) return step::new_session;
    if (plan.process_group && system::call.setpgid(0, *plan.process_group) == -1) return step::process_group;
    if (plan.umask) ::umask(*plan.umask);
    if (plan.nice && system::call.set_nice(*plan.nice) == -1) return step::nice;
    if (plan.io_priority && system::call.set_io_priority(*plan.io_priority) == -1) return step::io_priority;
    if (plan.processors != nullptr && !set_affinity(plan)) return step::affinity;
    if (const step failed = connect(plan); failed != step::none) return failed;
    if (!set_limits(plan)) return step::limit;

    if (plan.set_groups && system::call.setgroups(plan.groups.size, plan.groups.data) == -1) return step::groups;
    if (plan.group && system::call.setresgid(*plan.group, *plan.group, *plan.group) == -1) return step::group;
    if (plan.user && system::call.setresuid(*plan.user, *plan.user, *plan.user) == -1) return step::user;
    if (plan.no_new_privileges && system::call.prctl_no_new_privileges() == -1) return step::no_new_privileges;

    if (plan.die_with_parent) {
      if (system::call.prctl_pdeathsig(SIGKILL) == -1) return step::death_signal;
      // The parent may have died before the request was in place.
      if (::syscall(SYS_getppid) != plan.parent) ::syscall(SYS_exit_group, 127);
    }
    if (plan.cwd != nullptr && system::call.chdir(plan.cwd) == -1) return step::chdir;

    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, plan.blocked_signals.bits, nullptr, signal_set::size);
    return step::none;
  }

  // All signals are blocked since before the clone. No handler of the parent may run here, on its memory, so the
  // handlers go before the mask is set. Ignored signals would stay ignored across execve. Not by sigaction(3), which
  // refuses the two signals that the C library keeps for itself.
  __attribute__((no_sanitize("address", "undefined", "thread"))) static bool reset_signals(child_plan& plan) noexcept {
    const unsigned long default_action[8] = {};
    for (int signal = 1; signal < NSIG; ++signal) {
      ::syscall(SYS_rt_sigaction, signal, default_action, nullptr, signal_set::size);
    }
    for (const int signal : plan.ignored_signals) {
      plan.failed_item = signal;
      if (system::call.ignore_signal(signal) == -1) return false;
    }
    return true;
  }

  // The kernel leaves out, without a word, the processors that there are not or that are not for this process.
  __attribute__((no_sanitize("address", "undefined", "thread"))) static bool set_affinity(child_plan& plan) noexcept {
    const auto& wanted = *plan.processors;
    plan.failed_item = -1;
    if (system::call.sched_setaffinity(sizeof wanted.words, wanted.words) == -1) return false;
    processor_set got;
    if (system::call.sched_getaffinity(sizeof got.words, got.words) == -1) return false;
    for (int i = 0; i < processor_set::capacity; ++i) {
      const unsigned long bit = 1ul << i % processor_set::bits_a_word;
      if ((wanted.words[i / processor_set::bits_a_word] & bit) == 0) continue;
      if ((got.words[i / processor_set::bits_a_word] & bit) != 0) continue;
      plan.failed_item = i;
      errno = EINVAL;
      return false;
    }
    return true;
  }

  __attribute__((no_sanitize("address", "undefined", "thread"))) static bool set_limits(child_plan& plan) noexcept {
    plan.failed_item = 0;
    for (const auto& each : plan.limits) {
      if (system::call.setrlimit(each.resource, &each.value) == -1) return false;
      ++plan.failed_item;
    }
    return true;
  }

  __attribute__((no_sanitize("address", "undefined", "thread"))) static step connect(child_plan& plan) noexcept {
    auto* const begin = plan.connections.begin();
    auto* const end = plan.connections.end();
    const unsigned highest = end == begin || end[-1].target < 2 ? 2 : static_cast<unsigned>(end[-1].target);

    // Everything closes at execve, also what another library has left open for it; dup2 makes the exceptions.
    constexpr int close_on_exec = 1 << 2;  // CLOSE_RANGE_CLOEXEC, Linux 5.11
    for (const int fd : plan.open) system::call.close_on_exec(fd);  // which may be closed since it was seen
    const bool marked = plan.open.size != 0 || system::call.close_range(3, ~0u, close_on_exec) == 0;
    if (!marked && errno != EINVAL) return step::close_others;

    // A source whose number is a target too would be overwritten: it moves out of the way first.
    for (auto* moved = begin; moved != end; ++moved) {
      if (moved->source == moved->target) continue;
      for (auto* other = begin; other != end; ++other) {
        if (other->target != moved->source) continue;
        plan.failed_connection = *moved;
        moved->source = system::call.duplicate(moved->source, static_cast<int>(highest + 1));
        if (moved->source == -1) return step::move;
        break;
      }
    }
    for (auto* each = begin; each != end; ++each) {
      plan.failed_connection = *each;
      const int result = each->source == each->target ? system::call.keep_open(each->target)
                                                      : system::call.dup2(each->source, each->target);
      if (result == -1) return step::connect;
    }
    if (marked) return step::none;

    // Linux 5.9 and 5.10 close at once what they cannot mark: the gaps between the targets.
    unsigned first = 3;
    for (auto* each = begin; each != end; ++each) {
      const auto target = static_cast<unsigned>(each->target);
      if (target < first) continue;
      if (target > first && system::call.close_range(first, target - 1, 0) == -1) return step::close_others;
      first = target + 1;
    }
    if (plan.file != -1) {  // above all targets, and marked itself
      const auto file = static_cast<unsigned>(plan.file);
      if (file > first && system::call.close_range(first, file - 1, 0) == -1) return step::close_others;
      first = file + 1;
    }
    return system::call.close_range(first, ~0u, 0) == -1 ? step::close_others : step::none;
  }
};

}  // namespace cohort::detail
