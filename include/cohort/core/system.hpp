// SPDX-License-Identifier: BSL-1.0
/// The seam to the kernel: every system call whose failure the library must survive goes through `system::call`.
///
/// A test replaces one entry, makes it fail and puts it back; nothing else writes to it. The entries behave as their
/// man pages say (-1 and errno). They are plain function pointers, so that the child between clone and exec may use
/// them too.
#pragma once

#include <cerrno>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace cohort::system {

/// The numbers of the calls whose first versions take users and groups of 16 bits.
namespace number {
#ifdef SYS_setresuid32
inline constexpr long setgroups = SYS_setgroups32, setresgid = SYS_setresgid32, setresuid = SYS_setresuid32;
#else
inline constexpr long setgroups = SYS_setgroups, setresgid = SYS_setresgid, setresuid = SYS_setresuid;
#endif
#ifdef SYS_fcntl64
inline constexpr long fcntl = SYS_fcntl64;
#else
inline constexpr long fcntl = SYS_fcntl;
#endif
}  // namespace number

#ifdef __GLIBC__
extern "C" int __clone(int (*entry)(void*), void* stack_top, int flags, void* argument, ...);
#endif

#define COHORT_UNSANITIZED __attribute__((no_sanitize("address", "undefined", "thread")))

/// What does not return from the child. These are no lambdas, because a sanitizer looks into the function that makes a
/// pointer of one, and holds its frame for a part of the parent's stack.
namespace no_return {
COHORT_UNSANITIZED inline int execute(const char* path, char* const argv[], char* const envp[]) {
  return static_cast<int>(::syscall(SYS_execve, path, argv, envp));
}

COHORT_UNSANITIZED inline int execute_file(int fd, char* const argv[], char* const envp[]) {
  constexpr int at_empty_path = 0x1000;
  return static_cast<int>(::syscall(SYS_execveat, fd, "", argv, envp, at_empty_path));
}
}  // namespace no_return

/// The replaceable calls, by the names of their man pages.
struct calls {
  // sockets
  int (*socket)(int domain, int type, int protocol) = ::socket;
  int (*socketpair)(int domain, int type, int protocol, int ends[2]) = ::socketpair;
  int (*bind)(int fd, const sockaddr* address, socklen_t size) = ::bind;
  int (*listen)(int fd, int backlog) = ::listen;
  int (*accept4)(int fd, sockaddr* address, socklen_t* size, int flags) = ::accept4;
  ssize_t (*sendmsg)(int fd, const msghdr* message, int flags) = ::sendmsg;
  ssize_t (*recvmsg)(int fd, msghdr* message, int flags) = ::recvmsg;

  // descriptors
  int (*pipe2)(int ends[2], int flags) = ::pipe2;
  int (*open)(const char* path, int flags, mode_t mode) = [](const char* path, int flags, mode_t mode) {
    return ::open(path, flags, mode);
  };
  /// fcntl(F_DUPFD_CLOEXEC): the lowest free number from `from` on.
  int (*duplicate)(int fd, int from) = [](int fd, int from) COHORT_UNSANITIZED {
    return static_cast<int>(::syscall(number::fcntl, fd, F_DUPFD_CLOEXEC, from));
  };
  ssize_t (*write)(int fd, const void* data, size_t size) = ::write;
  int (*memfd_create)(const char* name, unsigned flags) = ::memfd_create;

  // processes
  int (*clone)(int (*entry)(void*), void* stack_top, int flags, void* argument, int* pidfd) =
      [](int (*entry)(void*), void* stack_top, int flags, void* argument, int* pidfd) {
#ifdef __GLIBC__
        return __clone(entry, stack_top, flags, argument, pidfd);  // clone is replaced by ThreadSanitizer
#else
        return ::clone(entry, stack_top, flags, argument, pidfd);
#endif
      };
  /// waitid(P_PIDFD) with the resource usage that glibc's wrapper leaves out.
  int (*waitid)(int pidfd, siginfo_t* info, int options, rusage* usage) =
      [](int pidfd, siginfo_t* info, int options, rusage* usage) {
        constexpr int p_pidfd = 3;
        return static_cast<int>(::syscall(SYS_waitid, p_pidfd, pidfd, info, options, usage));
      };
  int (*pidfd_open)(pid_t pid) = [](pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); };
  int (*kill)(pid_t pid, int signal) = ::kill;
  int (*pidfd_send_signal)(int pidfd, int signal) = [](int pidfd, int signal) {
    return static_cast<int>(::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
  };

  // Between clone and exec, in the child. Not by what a sanitizer puts in place of the C library's functions, and not
  // instrumented either: what a sanitizer knows of this thread is the parent's.
  int (*ignore_signal)(int signal) = [](int signal) COHORT_UNSANITIZED {
#ifdef __mips__
    struct sigaction action = {};
    action.sa_handler = SIG_IGN;
    return ::sigaction(signal, &action, nullptr);
#else
    constexpr unsigned long ignored[8] = {1};  // SIG_IGN, in front of the flags and the mask
    return static_cast<int>(::syscall(SYS_rt_sigaction, signal, ignored, nullptr, NSIG / 8));
#endif
  };
  pid_t (*setsid)() = []() COHORT_UNSANITIZED { return static_cast<pid_t>(::syscall(SYS_setsid)); };
  int (*setpgid)(pid_t pid, pid_t group) = [](pid_t pid, pid_t group) COHORT_UNSANITIZED {
    return static_cast<int>(::syscall(SYS_setpgid, pid, group));
  };
  int (*prctl_pdeathsig)(int signal) = [](int signal) COHORT_UNSANITIZED {
    constexpr int pr_set_pdeathsig = 1;
    return static_cast<int>(::syscall(SYS_prctl, pr_set_pdeathsig, signal, 0, 0, 0));
  };
  int (*prctl_no_new_privileges)() = []() COHORT_UNSANITIZED {
    constexpr int pr_set_no_new_privs = 38;
    return static_cast<int>(::syscall(SYS_prctl, pr_set_no_new_privs, 1, 0, 0, 0));
  };
  /// setpriority(2) of the calling thread.
  int (*set_nice)(int value) = [](int value) COHORT_UNSANITIZED {
    return static_cast<int>(::syscall(SYS_setpriority, PRIO_PROCESS, 0, value));
  };
  /// ioprio_set(2) of the calling thread.
  int (*set_io_priority)(int value) = [](int value) COHORT_UNSANITIZED {
    constexpr int ioprio_who_process = 1;
    return static_cast<int>(::syscall(SYS_ioprio_set, ioprio_who_process, 0, value));
  };
  int (*sched_setaffinity)(size_t size, const unsigned long* set) =
      [](size_t size, const unsigned long* set) COHORT_UNSANITIZED {
        return static_cast<int>(::syscall(SYS_sched_setaffinity, 0, size, set));
      };
  int (*sched_getaffinity)(size_t size, unsigned long* set) =
      [](size_t size, unsigned long* set) COHORT_UNSANITIZED {
        return static_cast<int>(::syscall(SYS_sched_getaffinity, 0, size, set));
      };
  int (*setrlimit)(int resource, const rlimit* limit) = [](int resource, const rlimit* limit) COHORT_UNSANITIZED {
    return ::setrlimit(static_cast<decltype(RLIMIT_CPU)>(resource), limit);
  };
  // The kernel's own calls, which change the calling thread alone. The C library's have every thread of the process do
  // the same, and in the child that list of threads is the parent's.
  int (*setgroups)(size_t size, const gid_t* groups) = [](size_t size, const gid_t* groups) COHORT_UNSANITIZED {
    return static_cast<int>(::syscall(number::setgroups, size, groups));
  };
  int (*setresgid)(gid_t real, gid_t effective, gid_t saved) =
      [](gid_t real, gid_t effective, gid_t saved) COHORT_UNSANITIZED {
        return static_cast<int>(::syscall(number::setresgid, real, effective, saved));
      };
  int (*setresuid)(uid_t real, uid_t effective, uid_t saved) =
      [](uid_t real, uid_t effective, uid_t saved) COHORT_UNSANITIZED {
        return static_cast<int>(::syscall(number::setresuid, real, effective, saved));
      };
  int (*chdir)(const char* path) = [](const char* path) COHORT_UNSANITIZED {
    return static_cast<int>(::syscall(SYS_chdir, path));
  };
  /// dup2(2) of two different numbers.
  int (*dup2)(int from, int to) = [](int from, int to) COHORT_UNSANITIZED {
    return static_cast<int>(::syscall(SYS_dup3, from, to, 0));
  };
  /// fcntl(F_SETFD, 0): the descriptor stays open across exec.
  int (*keep_open)(int fd) = [](int fd) COHORT_UNSANITIZED {
    return static_cast<int>(::syscall(number::fcntl, fd, F_SETFD, 0));
  };
  /// fcntl(F_SETFD, FD_CLOEXEC): the descriptor is closed by exec.
  int (*close_on_exec)(int fd) = [](int fd) COHORT_UNSANITIZED {
    return static_cast<int>(::syscall(number::fcntl, fd, F_SETFD, FD_CLOEXEC));
  };
  int (*close_range)(unsigned first, unsigned last, int flags) =
      [](unsigned first, unsigned last, int flags) COHORT_UNSANITIZED {
        return static_cast<int>(::syscall(SYS_close_range, first, last, flags));
      };
  int (*execve)(const char* path, char* const argv[], char* const envp[]) = no_return::execute;
  /// execveat(AT_EMPTY_PATH): the file that a descriptor is of.
  int (*execute_file)(int fd, char* const argv[], char* const envp[]) = no_return::execute_file;
};
#undef COHORT_UNSANITIZED

inline constinit calls call{};

/// Repeats a call that a signal interrupted before it did anything.
template <class Call, class... Arguments>
auto retry(Call function, Arguments... arguments) {
  for (;;) {
    const auto result = function(arguments...);
    if (result != -1 || errno != EINTR) return result;
  }
}

}  // namespace cohort::system
