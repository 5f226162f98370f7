// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <sys/resource.h>
#include <sys/types.h>

#include "../core/config.hpp"
#include "../core/descriptor.hpp"
#include "detail/option_types.hpp"
#include "stdio.hpp"

namespace cohort {
namespace detail {
class launch;
}

/// The process group that a child belongs to, which is what a terminal sends Ctrl-C and Ctrl-Z to.
enum class process_group {
  own,      ///< one of its own: Ctrl-C reaches the parent alone, which decides what becomes of the child
  inherit,  ///< the parent's: for a child that talks to the user's terminal
};

/// Who is served first by a disk (ioprio_set(2)).
enum class io_class {
  realtime = 1,     ///< before all others; for the superuser
  best_effort = 2,  ///< what a process has that never asked
  idle = 3,         ///< when nobody else wants the disk
};

/// A program and all that it is to be started with.
///
///     cohort::command list("ls", "-l");
///     list.cwd("/usr").out(cohort::stdio::pipe);
///
/// Setting anything never fails, and what is set last counts. spawn() says which value cannot be served: with
/// errc::invalid_option what no system could serve (an empty program, a string with a NUL inside, a variable's name
/// that is empty or holds '=', a negative descriptor number, an unknown user), with an errno what the kernel refuses.
///
/// There is no hook to run code of yours in the child before its program. Until then the child works on the parent's
/// memory: a lock that another thread holds stays locked for ever, and what the code changes the parent has changed
/// (vfork(2)). What such hooks are used for is an option here; what is not belongs into a small program that does it
/// and then executes the next one.
///
/// Copyable: the same command can be started any number of times. Strings may be anything that converts to std::string
/// or std::string_view. Distinct objects: safe. Shared objects: unsafe.
class command {
 public:
  /// A program without a slash is searched in the PATH that the child gets ("/bin:/usr/bin" if it gets none). Other
  /// relative paths start at the child's directory, see cwd().
  template <detail::string_like Program, detail::string_like... Arguments>
  explicit command(const Program& program, const Arguments&... arguments)
      : program_(detail::to_string(program)), arguments_{detail::to_string(arguments)...} {}

  /// The same with the arguments in a range, such as a std::vector<std::string>.
  template <detail::string_like Program, detail::string_range Range>
  explicit command(const Program& program, const Range& arguments) : program_(detail::to_string(program)) {
    args(arguments);
  }

  /// A line for the shell, /bin/sh; what follows are the values of "$1", "$2" and so on in it.
  ///
  /// The shell takes everything in the line for its own language, so that a value from elsewhere (a file name, a
  /// request) that is pasted into the line can run any program. Pass it beside the line, and quote its place:
  ///
  ///     cohort::command::shell("sort -- \"$1\" | uniq -c", file)
  template <detail::string_like Line, detail::string_like... Arguments>
  static command shell(const Line& line, const Arguments&... arguments) {
    // The line may begin with a dash, so "--"; then what the shell calls itself in its messages.
    command result("/bin/sh", "-c", "--", line, "sh", arguments...);
    result.argv0("sh");
    return result;
  }

  const std::string& program() const noexcept { return program_; }

  template <detail::string_like T>
  command& arg(const T& argument) {
    arguments_.push_back(detail::to_string(argument));
    return *this;
  }

  template <detail::string_range Range>
  command& args(Range&& arguments) {
    for (const auto& argument : arguments) arg(argument);
    return *this;
  }

  /// What the program sees as its own name, and ps(1) shows as its title; the program as it was given, if not set.
  template <detail::string_like T>
  command& argv0(const T& name) {
    argv0_ = detail::to_string(name);
    return *this;
  }

  /// The directory that the child starts in, entered with the rights of the child's user; the parent's, if not set.
  template <detail::string_like T>
  command& cwd(const T& directory) {
    cwd_ = detail::to_string(directory);
    return *this;
  }

  /// Sets a variable on top of the parent's environment, which is read at each spawn.
  template <detail::string_like Name, detail::string_like Value>
  command& env(const Name& name, const Value& value) {
    environment_.insert_or_assign(detail::to_string(name), detail::to_string(value));
    return *this;
  }

  /// Sets each of a range of pairs, such as a map. After clear_env() they are the whole environment.
  template <detail::string_pair_range Range>
  command& env(Range&& variables) {
    for (const auto& variable : variables) env(variable.first, variable.second);
    return *this;
  }

  /// Takes a variable of the parent away from the child.
  template <detail::string_like T>
  command& unset_env(const T& name) {
    environment_.insert_or_assign(detail::to_string(name), std::nullopt);
    return *this;
  }

  /// Starts from an empty environment: the child sees only what env() sets after this.
  command& clear_env();

  /// What the child reads from, writes to and complains to; all three are inherited, if not set.
  command& in(stdio source) { return fd(0, std::move(source)); }
  command& out(stdio target) { return fd(1, std::move(target)); }
  command& err(stdio target) { return fd(2, std::move(target)); }

  /// What any descriptor of the child is. It has 0, 1, 2 and those that are set here, whatever the parent holds open.
  command& fd(int number, stdio what);

  /// Whether fd(), in(), out() or err() has set this number.
  bool has_fd(int number) const { return descriptors_.contains(number); }

  /// The user that the child runs as, by name or number; the parent's, if not set.
  ///
  /// It comes with its group and its supplementary groups, as the user database has them, unless group() or groups()
  /// say otherwise. A number that the database does not know needs group(), and has no supplementary groups. Names are
  /// looked up by the parent at each spawn, which may wait for the database. What the command opens is opened with the
  /// rights of the parent. To change users takes privileges (CAP_SETUID, CAP_SETGID).
  template <detail::account_like T>
  command& user(const T& who) {
    user_ = detail::to_account(who);
    return *this;
  }

  /// The group that the child runs as, by name or number; its user's, or else the parent's, if not set.
  template <detail::account_like T>
  command& group(const T& which) {
    group_ = detail::to_account(which);
    return *this;
  }

  /// The supplementary groups, all of them, by name or number; its user's, or else the parent's, if not set. `groups()`
  /// is none.
  template <detail::account_like... T>
  command& groups(const T&... which) {
    groups_ = std::vector<detail::account>{detail::to_account(which)...};
    return *this;
  }

  template <detail::account_range Range>
  command& groups(Range&& which) {
    groups_.emplace();
    for (const auto& each : which) groups_->push_back(detail::to_account(each));
    return *this;
  }

  /// The permissions that files made by the child never get, 0 to 0777; the parent's, if not set.
  command& umask(mode_t mask);

  /// A limit on a resource, RLIMIT_NOFILE and so on in the units of getrlimit(2); the parent's, if not set. Set after
  /// the descriptors are in place, so that their numbers must be below the limit of the parent, not below this one.
  command& limit(int resource, rlim_t soft, rlim_t hard);

  /// The nice value, -20 (served most) to 19; the parent's, if not set. Less than the parent's takes privileges.
  command& nice(int value);

  /// The priority at disks, with a level from 0 (served most) to 7, which `io_class::idle` does not use; the parent's,
  /// if not set.
  command& io_priority(io_class served, int level = 4);

  /// The processors that the child may run on, by number; the parent's, if not set. Fails with EINVAL for one that does
  /// not exist or is not for this process (cpuset(7)).
  template <detail::number... T>
  requires(sizeof...(T) > 0) command& cpu_affinity(T... processors) {
    processors_ = std::vector<int>{static_cast<int>(processors)...};
    return *this;
  }

  template <detail::number_range Range>
  command& cpu_affinity(Range&& processors) {
    processors_.emplace();
    for (const auto each : processors) processors_->push_back(static_cast<int>(each));
    return *this;
  }

  /// Starts the child in a session of its own, without a terminal (setsid(2)), and so in a process group of its own:
  /// errc::invalid_option with a process_group() that says otherwise. This turns die_with_parent off: the child
  /// outlives the parent, unless `die_with_parent(true)` is set too.
  command& new_session();

  /// `process_group::own`, if not set.
  ///
  /// A process group of its own is not the terminal's: a child that reads from the terminal then gets SIGTTIN, which
  /// stops it. One that talks to the user takes `process_group::inherit`.
  command& process_group(cohort::process_group group);

  /// Joins a process group of this session, by the number of its leader: the first child of a pipeline.
  command& process_group(pid_t leader);

  /// Executes this open file (execveat(2)), whatever the program's name stands for now, and whether or not the child's
  /// user may reach it by a path. It is no script. The descriptor is opened with O_PATH, or for reading.
  command& file(std::shared_ptr<const descriptor> opened);

  /// Starts the child with a signal blocked (held back until the program unblocks it). None is, if not set.
  command& block_signal(int number);

  /// Starts the child with a signal ignored: `ignore_signal(SIGHUP)` is nohup(1). None is, if not set: also what this
  /// process itself ignores, because nohup started it, the child does not.
  command& ignore_signal(int number);

  /// Has the kernel refuse all that would give the child, or its children, more rights than it starts with, such as
  /// set-user-ID programs (PR_SET_NO_NEW_PRIVS(2const)).
  command& no_new_privileges();

  /// Has the kernel kill the child (SIGKILL) when the parent dies; on, if not set, but off with new_session().
  ///
  /// To the kernel the parent is the THREAD that called spawn: when that thread ends, the child is killed too, even if
  /// the process lives on. Turn it off where threads that spawn come and go. Programs that are set-user-ID,
  /// set-group-ID or have capabilities are not killed (PR_SET_PDEATHSIG(2const)).
  command& die_with_parent(bool on);

 private:
  friend class detail::launch;

  // A member for each thing that can be said of a process.
  std::string program_;
  std::shared_ptr<const descriptor> file_;
  std::vector<std::string> arguments_;
  std::optional<std::string> argv0_;
  std::optional<std::string> cwd_;
  std::map<std::string, std::optional<std::string>> environment_;  // nullopt: taken away
  bool inherit_environment_ = true;
  std::map<int, stdio> descriptors_;
  std::optional<detail::account> user_, group_;
  std::optional<std::vector<detail::account>> groups_;
  std::optional<mode_t> umask_;
  std::map<int, rlimit> limits_;
  std::optional<int> nice_;
  std::optional<std::pair<io_class, int>> io_priority_;
  std::optional<std::vector<int>> processors_;
  std::variant<cohort::process_group, pid_t> process_group_ = cohort::process_group::own;  // pid_t: one to join
  std::vector<int> blocked_signals_, ignored_signals_;
  bool new_session_ = false;
  bool no_new_privileges_ = false;
  std::optional<bool> die_with_parent_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "command.ipp"
#endif
