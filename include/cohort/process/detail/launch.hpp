// SPDX-License-Identifier: BSL-1.0
/// Starts a program: clone(CLONE_VM | CLONE_VFORK), a few system calls in the child, execve.
///
/// The child runs on the parent's memory, with the calling thread stopped, until execve gives it memory of its own. So
/// nothing is copied, however large the parent is, and a step that fails is reported by writing it down. The price:
/// until execve the child must not change anything that the parent would miss (heap, locks, buffers), and may call
/// nothing but the kernel. Everything that needs more happens before the clone, in launch's constructor.
///
/// valgrind runs such a clone as a fork. Programs start there all the same, but a step that fails in the child is not
/// seen by the parent: the child has then exited with 127.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../core/system.hpp"
#include "../command.hpp"

namespace cohort::detail {

/// A value as error texts show it: in quotes, with a NUL made visible.
inline std::string in_quotes(std::string_view value) {
  std::string text = "\"";
  for (const char c : value) c == '\0' ? text += "\\0" : text += c;
  return text += '"';
}

/// What the child needs between clone and execve, and where it reports the step that failed.
struct child_plan {
  enum class step { none, process_group, death_signal, chdir, close_others, move, connect, exec };

  struct connection {
    int source, target;
  };

  const char* path = nullptr;
  char* const* argv = nullptr;
  char* const* envp = nullptr;
  const char* cwd = nullptr;
  connection* connections = nullptr;  // sorted by target
  std::size_t connection_count = 0;
  bool own_group = false;
  bool die_with_parent = false;
  pid_t parent = 0;

  step failed = step::none;
  int error = 0;
  connection failed_connection{-1, -1};
};

/// The child between clone and execve. No sanitizer may instrument it: it leaves its frames without returning, on
/// memory that the parent goes on to use.
class child_process {
 public:
  __attribute__((no_sanitize("address", "undefined", "thread"))) static int run(void* argument) noexcept {
    auto& plan = *static_cast<child_plan*>(argument);
    plan.failed = prepare(plan);
    if (plan.failed == child_plan::step::none) {
      system::call.execve(plan.path, plan.argv, plan.envp);
      plan.failed = child_plan::step::exec;
    }
    plan.error = errno;
    return 127;  // clone(2) makes it _exit(127)
  }

 private:
  using step = child_plan::step;

  __attribute__((no_sanitize("address", "undefined", "thread"))) static step prepare(child_plan& plan) noexcept {
    // All signals are blocked since before the clone. No handler of the parent may run here, on its memory, so the
    // handlers go before the mask is emptied. Ignored signals would stay ignored across execve. Not by sigaction(3),
    // which refuses the two signals that the C library keeps for itself.
    const unsigned long default_action[8] = {};
    for (int signal = 1; signal < NSIG; ++signal) {
      ::syscall(SYS_rt_sigaction, signal, default_action, nullptr, NSIG / 8);
    }

    if (plan.own_group && system::call.setpgid(0, 0) == -1) return step::process_group;
    if (plan.die_with_parent) {
      if (system::call.prctl_pdeathsig(SIGKILL) == -1) return step::death_signal;
      // The parent may have died before the request was in place.
      if (::syscall(SYS_getppid) != plan.parent) ::syscall(SYS_exit_group, 127);
    }
    if (plan.cwd != nullptr && system::call.chdir(plan.cwd) == -1) return step::chdir;

    if (const step failed = connect(plan); failed != step::none) return failed;

    const std::uint64_t no_signals[2] = {};
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, no_signals, nullptr, NSIG / 8);
    return step::none;
  }

  __attribute__((no_sanitize("address", "undefined", "thread"))) static step connect(child_plan& plan) noexcept {
    auto* const begin = plan.connections;
    auto* const end = begin + plan.connection_count;
    const int beyond = end == begin || end[-1].target < 3 ? 3 : end[-1].target + 1;

    // Everything closes at execve, also what another library has left open for it; dup2 makes the exceptions.
    constexpr int close_on_exec = 1 << 2;  // CLOSE_RANGE_CLOEXEC, Linux 5.11
    const bool marked = system::call.close_range(3, ~0u, close_on_exec) == 0;
    if (!marked && errno != EINVAL) return step::close_others;

    // A source whose number is a target too would be overwritten: it moves out of the way first.
    for (auto* moved = begin; moved != end; ++moved) {
      if (moved->source == moved->target) continue;
      for (auto* other = begin; other != end; ++other) {
        if (other->target != moved->source) continue;
        plan.failed_connection = *moved;
        moved->source = system::call.duplicate(moved->source, beyond);
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
    return system::call.close_range(first, ~0u, 0) == -1 ? step::close_others : step::none;
  }
};

/// A program that is ready to start, and its start.
class launch {
 public:
  struct started {
    pid_t pid = 0;
    descriptor pidfd;
  };

  /// Does all that needs no child. `given` must outlive the launch.
  explicit launch(const command& given) : command_(given) {
    check_values();
    make_arguments();
    make_environment();
    path_ = find_program();
    for (const auto& [number, what] : given.descriptors_) connect(number, what);
  }
  launch(const launch&) = delete;

  /// The parent's end of the pipe to the child's descriptor 0, 1 or 2; empty if that is no pipe.
  descriptor take_end(int number) { return std::move(ends_[number]); }

  /// Starts the child. When this throws, there is none: one that failed on its way to execve has been reaped.
  started run() {
    child_plan plan;
    plan.path = path_.c_str();
    plan.argv = argv_.data();
    plan.envp = envp_.empty() ? environ : envp_.data();
    plan.cwd = command_.cwd_ ? command_.cwd_->c_str() : nullptr;
    plan.connections = connections_.data();
    plan.connection_count = connections_.size();
    plan.own_group = command_.group_ == process_group::own;
    plan.die_with_parent = command_.die_with_parent_;
    plan.parent = ::getpid();

    started result;
    int pidfd = -1;
    result.pid = clone(plan, &pidfd);
    if (result.pid == -1) throw_error("spawn: clone", errno);
    result.pidfd.reset(pidfd);
    if (plan.failed == child_plan::step::none) return result;

    // It is in _exit already, so this waits for no more than the end of that.
    siginfo_t info;
    system::retry(system::call.waitid, result.pidfd.get(), &info, WEXITED, static_cast<rusage*>(nullptr));
    throw_error(describe(plan), plan.error);
  }

 private:
  // The child's stack is a part of this one, which stands still while the child uses it: nothing to allocate, and
  // memory that sanitizers know as a stack. It needs well under 4 KiB, and more where the dynamic linker binds its
  // calls lazily.
  __attribute__((no_sanitize("address", "undefined", "thread"))) static pid_t clone(child_plan& plan,
                                                                                    int* pidfd) noexcept {
    constexpr std::size_t stack_size = 32 * 1024;
    alignas(16) char stack[stack_size];

    // By the kernel's call, because pthread_sigmask leaves out the signals that the C library keeps for itself.
    const std::uint64_t all_signals[2] = {~std::uint64_t(0), ~std::uint64_t(0)};
    std::uint64_t before[2];
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, all_signals, before, NSIG / 8);
    const int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD;
    const pid_t pid = system::call.clone(&child_process::run, stack + stack_size, flags, &plan, pidfd);
    const int error = errno;
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, before, nullptr, NSIG / 8);
    errno = error;
    return pid;
  }

  std::string describe(const child_plan& plan) const {
    switch (plan.failed) {
      case child_plan::step::process_group: return "spawn: process group";
      case child_plan::step::death_signal: return "spawn: die with parent";
      case child_plan::step::chdir: return fmt::format("spawn: chdir {}", in_quotes(plan.cwd));
      case child_plan::step::close_others: return "spawn: close_range";
      case child_plan::step::move:
      case child_plan::step::connect:
        return fmt::format("spawn: pass {} as {}", plan.failed_connection.source, name(plan.failed_connection.target));
      case child_plan::step::none:
      case child_plan::step::exec: break;
    }
    return fmt::format("spawn: exec {}", in_quotes(path_));
  }

  static std::string name(int number) {
    switch (number) {
      case 0: return "stdin";
      case 1: return "stdout";
      case 2: return "stderr";
      default: return fmt::format("fd {}", number);
    }
  }

  void check_values() const {
    check(!command_.program_.empty(), "program", command_.program_);
    check_string("program", command_.program_);
    if (command_.argv0_) check_string("argv0", *command_.argv0_);
    for (const auto& argument : command_.arguments_) check_string("argument", argument);
    if (command_.cwd_) check_string("cwd", *command_.cwd_);
    for (const auto& [variable, value] : command_.environment_) {
      check(!variable.empty() && variable.find('=') == variable.npos, "variable", variable);
      check_string("variable", variable);
      if (value) check_string("value", *value);
    }
  }

  static void check(bool valid, std::string_view what, std::string_view value) {
    if (!valid) throw_error(fmt::format("spawn: {} {}", what, in_quotes(value)), errc::invalid_option);
  }

  static void check_string(std::string_view what, const std::string& value) {
    check(value.find('\0') == value.npos, what, value);
  }

  void make_arguments() {
    argv_.reserve(command_.arguments_.size() + 2);
    argv_.push_back(text(command_.argv0_ ? *command_.argv0_ : command_.program_));
    for (const auto& argument : command_.arguments_) argv_.push_back(text(argument));
    argv_.push_back(nullptr);
  }

  void make_environment() {
    const auto& changes = command_.environment_;
    if (command_.inherit_environment_ && changes.empty()) return;
    variables_.reserve(changes.size());
    for (const auto& [variable, value] : changes) {
      if (value) variables_.push_back(fmt::format("{}={}", variable, *value));
    }
    for (char** inherited = environ; command_.inherit_environment_ && inherited && *inherited; ++inherited) {
      const std::string_view variable(*inherited);
      if (!changes.contains(std::string(variable.substr(0, variable.find('='))))) envp_.push_back(*inherited);
    }
    for (const auto& variable : variables_) envp_.push_back(text(variable));
    envp_.push_back(nullptr);
  }

  // execve(2) takes char* for reasons of its age; it writes to none of them.
  static char* text(const std::string& string) { return const_cast<char*>(string.c_str()); }

  std::string find_program() const {
    const auto& program = command_.program_;
    if (program.find('/') != program.npos) return program;

    int error = ENOENT;
    std::string_view rest = search_path();
    for (;;) {
      const auto end = rest.find(':');
      std::string candidate(rest.substr(0, end));
      if (!candidate.empty()) candidate += '/';  // an empty entry is the current directory
      candidate += program;
      const int found = executable(candidate);
      if (found == 0) return candidate;
      if (found == EACCES) error = EACCES;
      if (end == rest.npos) break;
      rest.remove_prefix(end + 1);
    }
    throw_error(fmt::format("spawn: find {}", in_quotes(program)), error);
  }

  std::string_view search_path() const {
    constexpr std::string_view unset = "/bin:/usr/bin";  // as execvp(3)
    const auto& changes = command_.environment_;
    if (const auto change = changes.find("PATH"); change != changes.end()) {
      return change->second ? std::string_view(*change->second) : unset;
    }
    const char* inherited = command_.inherit_environment_ ? ::getenv("PATH") : nullptr;
    return inherited ? std::string_view(inherited) : unset;
  }

  // 0, or why it cannot be executed.
  int executable(const std::string& candidate) const {
    const bool at_cwd = command_.cwd_ && candidate.front() != '/';  // seen from where the child will be
    const std::string path = at_cwd ? *command_.cwd_ + '/' + candidate : candidate;
    struct stat file;
    if (::stat(path.c_str(), &file) == -1) return errno;
    if (!S_ISREG(file.st_mode)) return EACCES;
    return ::faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0 ? 0 : errno;
  }

  void connect(int number, const stdio& what) {
    if (number < 0) throw_error(fmt::format("spawn: fd {}", number), errc::invalid_option);
    switch (what.kind_) {
      case stdio::kind::inherit:
        if (number > 2) connections_.push_back({number, number});
        return;
      case stdio::kind::pipe: return connect(number, make_pipe(number));
      case stdio::kind::null: return connect(number, open("/dev/null", O_RDWR));
      case stdio::kind::file: return connect(number, open(what.path_, what.flags_));
      case stdio::kind::number: connections_.push_back({what.number_, number}); return;
    }
  }

  void connect(int number, descriptor source) {
    connections_.push_back({source.get(), number});
    sources_.push_back(std::move(source));
  }

  // The child's end; the parent's is kept in ends_.
  descriptor make_pipe(int number) {
    if (number > 2) throw_error("spawn: pipe for " + name(number), errc::invalid_option);
    int made[2];
    if (system::call.pipe2(made, O_CLOEXEC) == -1) throw_error("spawn: pipe for " + name(number), errno);
    descriptor reading(made[0]), writing(made[1]);
    const bool child_reads = number == 0;
    ends_[number] = std::move(child_reads ? writing : reading);
    return std::move(child_reads ? reading : writing);
  }

  static descriptor open(const std::string& path, int flags) {
    check_string("path", path);
    descriptor file(system::retry(system::call.open, path.c_str(), flags | O_CLOEXEC, mode_t(0666)));
    if (!file) throw_error("spawn: open " + in_quotes(path), errno);
    return file;
  }

  const command& command_;
  std::string path_;
  std::vector<char*> argv_;
  std::vector<std::string> variables_;
  std::vector<char*> envp_;  // empty: the parent's
  std::vector<child_plan::connection> connections_;
  std::vector<descriptor> sources_;
  descriptor ends_[3];
};

}  // namespace cohort::detail
