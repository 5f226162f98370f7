// SPDX-License-Identifier: BSL-1.0
/// Starts a program: clone(CLONE_VM | CLONE_VFORK), a few system calls in the child, execve.
///
/// The child runs on the parent's memory, with the calling thread stopped, until execve gives it memory of its own. So
/// nothing is copied, however large the parent is, and a step that fails is reported by writing it down. The price is
/// what the child may not do meanwhile (see child_plan.hpp): all that it may not is done before the clone, in launch's
/// constructor.
///
/// valgrind runs such a clone as a fork. Programs start there all the same, but a step that fails in the child is not
/// seen by the parent: the child has then exited with 127.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../core/system.hpp"
#include "../command.hpp"
#include "child_plan.hpp"
#include "stdio_plan.hpp"
#include "credentials.hpp"

#if defined(__SANITIZE_ADDRESS__)
extern "C" void __asan_unpoison_memory_region(const volatile void* address, std::size_t size);
#endif

namespace cohort::detail {

/// A program that is ready to start, and its start.
class launch {
 public:
  struct started {
    pid_t pid = 0;
    descriptor pidfd;
  };

  /// Does all that needs no child. `given` must outlive the launch.
  explicit launch(const command& given);
  launch(const launch&) = delete;

  /// The parent's end of the pipe to the child's descriptor 0, 1 or 2; empty if that is no pipe.
  descriptor take_end(int number) { return connections_.take_end(number); }

  /// Starts the child. When this throws, there is none: one that failed on its way to execve has been reaped.
  started run();

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
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stack, stack_size);  // the child has left its frames here without returning
#endif
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, before, nullptr, NSIG / 8);
    errno = error;
    return pid;
  }

  child_plan make_plan();

  // Runs the plan. A child that failed on its way to execve is reaped.
  started start(child_plan& plan);

  // What is open from 3 on, for systems that refuse close_range (seccomp of older container runtimes).
  static std::vector<int> open_descriptors();

  std::string describe(const child_plan& plan) const;

  static const command& checked(const command& given);

  static void check_signal(std::string_view what, int signal);

  static void check_process_group(const command& given);

  static bool owns_group(const command& given);

  void make_arguments();

  void make_environment();

  // execve(2) takes char* for reasons of its age; it writes to none of them.
  static char* text(const std::string& string) { return const_cast<char*>(string.c_str()); }

  std::string find_program() const;

  void take_file();

  std::string_view search_path() const;

  // 0, or why it cannot be executed.
  int executable(const std::string& candidate) const;

  const command& command_;
  credentials credentials_;
  std::string path_;
  descriptor file_;  // see command::file()
  connections connections_;
  std::vector<char*> argv_;
  std::vector<std::string> variables_;
  std::vector<char*> envp_;  // empty: the parent's
  std::vector<child_plan::limit> limits_;
  processor_set processors_;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "launcher.ipp"
#endif
