// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "launcher.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <variant>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "checks.hpp"

namespace cohort::detail {

COHORT_INLINE launch::launch(const command& given)
    : command_(checked(given)),
      credentials_(credentials_lookup::find(given.user_, given.group_, given.groups_)),
      path_(find_program()),
      connections_(given.descriptors_) {
  take_file();
  make_arguments();
  make_environment();
  for (const auto& [resource, value] : given.limits_) limits_.push_back({resource, value});
  if (given.processors_) {
    for (const int processor : *given.processors_) processors_.add(processor);
  }
}

COHORT_INLINE launch::started launch::run() {
  child_plan plan = make_plan();
  auto result = start(plan);
  if (plan.failed == child_plan::step::close_others && (plan.error == EPERM || plan.error == ENOSYS)) {
    const auto open = open_descriptors();
    if (!open.empty()) {
      plan = make_plan();
      plan.open = {open.data(), open.size()};
      result = start(plan);
    }
  }
  if (plan.failed != child_plan::step::none) throw_error(describe(plan), plan.error);
  return result;
}

COHORT_INLINE launch::started launch::start(child_plan& plan) {
  started result;
  int pidfd = -1;
  {
    const dumpable_keeper keeper(!credentials_.change_nothing());
    result.pid = clone(plan, &pidfd);
    if (result.pid == -1) plan.error = errno;
  }
  if (result.pid == -1) throw_error("spawn: clone", plan.error);
  result.pidfd.reset(pidfd);
  if (plan.failed == child_plan::step::none) return result;

  // It is in _exit already, so this waits for no more than the end of that.
  siginfo_t info;
  system::retry(system::call.waitid, result.pidfd.get(), &info, WEXITED, static_cast<rusage*>(nullptr));
  return result;
}

COHORT_INLINE std::vector<int> launch::open_descriptors() {
  std::vector<int> found;
  const auto close = [](DIR* stream) { ::closedir(stream); };
  const std::unique_ptr<DIR, decltype(close)> stream(::opendir("/proc/self/fd"), close);
  while (const auto* entry = stream ? ::readdir(stream.get()) : nullptr) {
    const int number = std::atoi(entry->d_name);  // 0 for "." and ".."
    if (number > 2) found.push_back(number);
  }
  return found;
}

COHORT_INLINE child_plan launch::make_plan() {
  child_plan plan;
  plan.path = path_.c_str();
  plan.file = file_ ? file_.get() : -1;
  plan.argv = argv_.data();
  plan.envp = envp_.empty() ? environ : envp_.data();
  plan.cwd = command_.cwd_ ? command_.cwd_->c_str() : nullptr;
  plan.connections = {connections_.list().data(), connections_.list().size()};
  plan.ignored_signals = {command_.ignored_signals_.data(), command_.ignored_signals_.size()};
  for (const int signal : command_.blocked_signals_) plan.blocked_signals.add(signal);
  plan.new_session = command_.new_session_;
  if (const auto* leader = std::get_if<pid_t>(&command_.process_group_)) {
    plan.process_group = *leader;
  } else if (owns_group(command_) && !command_.new_session_) {
    plan.process_group = 0;
  }
  plan.nice = command_.nice_;
  if (command_.io_priority_) {
    const auto [served, level] = *command_.io_priority_;
    plan.io_priority = static_cast<int>(served) << 13 | level;  // IOPRIO_PRIO_VALUE
  }
  plan.processors = command_.processors_ ? &processors_ : nullptr;
  plan.umask = command_.umask_;
  plan.limits = {limits_.data(), limits_.size()};
  if (credentials_.groups) {
    plan.set_groups = true;
    plan.groups = {credentials_.groups->data(), credentials_.groups->size()};
  }
  plan.group = credentials_.group;
  plan.user = credentials_.user;
  plan.no_new_privileges = command_.no_new_privileges_;
  plan.die_with_parent = command_.die_with_parent_.value_or(!command_.new_session_);
  plan.parent = ::getpid();
  return plan;
}

COHORT_INLINE std::string launch::describe(const child_plan& plan) const {
  using step = child_plan::step;
  switch (plan.failed) {
    case step::ignore_signal: return fmt::format("spawn: ignore signal {}", plan.failed_item);
    case step::new_session: return "spawn: new session";
    case step::process_group:
      return *plan.process_group == 0 ? "spawn: process group"
                                      : fmt::format("spawn: process group {}", *plan.process_group);
    case step::nice: return fmt::format("spawn: nice {}", *plan.nice);
    case step::io_priority: {
      const auto [served, level] = *command_.io_priority_;
      return fmt::format("spawn: io priority {} {}", shown(served), level);
    }
    case step::affinity:
      if (plan.failed_item != -1) return fmt::format("spawn: cpu affinity {}", plan.failed_item);
      return fmt::format("spawn: cpu affinity {}", fmt::join(*command_.processors_, ", "));
    case step::close_others: return "spawn: close_range";
    case step::move:
    case step::connect:
      return fmt::format("spawn: pass {} as {}", plan.failed_connection.source,
                         descriptor_name(plan.failed_connection.target));
    case step::limit: {
      const auto& limit = limits_[static_cast<std::size_t>(plan.failed_item)];
      return fmt::format("spawn: limit {}", shown(limit.resource, limit.value));
    }
    case step::groups:
      if (command_.groups_) return fmt::format("spawn: groups {}", shown(*command_.groups_));
      return fmt::format("spawn: user {}", shown(*command_.user_));
    case step::group:
      if (command_.group_) return fmt::format("spawn: group {}", shown(*command_.group_));
      return fmt::format("spawn: user {}", shown(*command_.user_));
    case step::user: return fmt::format("spawn: user {}", shown(*command_.user_));
    case step::no_new_privileges: return "spawn: no new privileges";
    case step::death_signal: return "spawn: die with parent";
    case step::chdir: return fmt::format("spawn: chdir {}", in_quotes(plan.cwd));
    case step::none:
    case step::exec: break;
  }
  // The kernel says the same of a file that is not there and of one whose first line names a program that is not.
  const bool is_there = plan.error == ENOENT && executable(path_) != ENOENT;
  return fmt::format("spawn: exec {}{}", in_quotes(path_), is_there ? " (its interpreter?)" : "");
}

COHORT_INLINE const command& launch::checked(const command& given) {
  if (given.program_.empty()) refuse("program", in_quotes(given.program_));
  check_string("program", given.program_);
  if (given.argv0_) check_string("argv0", *given.argv0_);
  for (const auto& argument : given.arguments_) check_string("argument", argument);
  if (given.cwd_) check_string("cwd", *given.cwd_);
  for (const auto& [variable, value] : given.environment_) {
    if (variable.empty() || variable.find('=') != variable.npos) refuse("variable", in_quotes(variable));
    check_string("variable", variable);
    if (value) check_string("value", *value);
  }
  if (given.umask_.value_or(0) > 0777) refuse("umask", fmt::format("{:o}", *given.umask_));
  if (given.nice_ && (*given.nice_ < -20 || *given.nice_ > 19)) refuse("nice", *given.nice_);
  if (given.io_priority_) {
    const int level = given.io_priority_->second;
    if (level < 0 || level > 7) refuse("io priority level", level);
  }
  if (given.processors_) {
    if (given.processors_->empty()) refuse("cpu affinity", "to none");
    for (const int processor : *given.processors_) {
      if (processor < 0 || processor >= processor_set::capacity) refuse("cpu affinity", processor);
    }
  }
  for (const int signal : given.blocked_signals_) check_signal("block signal", signal);
  for (const int signal : given.ignored_signals_) check_signal("ignore signal", signal);
  check_process_group(given);
  return given;
}

COHORT_INLINE void launch::check_signal(std::string_view what, int signal) {
  if (signal < 1 || signal >= NSIG || signal == SIGKILL || signal == SIGSTOP) refuse(what, signal);
}

COHORT_INLINE void launch::check_process_group(const command& given) {
  const auto* leader = std::get_if<pid_t>(&given.process_group_);
  if (leader && *leader < 1) refuse("process group", *leader);
  if (!given.new_session_ || owns_group(given)) return;
  refuse("new session in process group", leader ? fmt::to_string(*leader) : "of the parent");
}

COHORT_INLINE bool launch::owns_group(const command& given) {
  const auto* group = std::get_if<process_group>(&given.process_group_);
  return group && *group == process_group::own;
}

COHORT_INLINE void launch::make_arguments() {
  argv_.reserve(command_.arguments_.size() + 2);
  argv_.push_back(text(command_.argv0_ ? *command_.argv0_ : command_.program_));
  for (const auto& argument : command_.arguments_) argv_.push_back(text(argument));
  argv_.push_back(nullptr);
}

COHORT_INLINE void launch::make_environment() {
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

COHORT_INLINE void launch::take_file() {
  if (!command_.file_) return;
  const auto& list = connections_.list();
  const int above = list.empty() ? STDERR_FILENO : std::max(list.back().target, STDERR_FILENO);
  file_.reset(system::call.duplicate(command_.file_->get(), above + 1));
  if (!file_) throw_error(fmt::format("spawn: open {}", in_quotes(path_)), errno);
}

COHORT_INLINE std::string launch::find_program() const {
  const auto& program = command_.program_;
  if (command_.file_) return program;
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

COHORT_INLINE std::string_view launch::search_path() const {
  constexpr std::string_view unset = "/bin:/usr/bin";  // as execvp(3)
  const auto& changes = command_.environment_;
  if (const auto change = changes.find("PATH"); change != changes.end()) {
    return change->second ? std::string_view(*change->second) : unset;
  }
  const char* inherited = command_.inherit_environment_ ? ::getenv("PATH") : nullptr;
  return inherited ? std::string_view(inherited) : unset;
}

COHORT_INLINE int launch::executable(const std::string& candidate) const {
  const bool at_cwd = command_.cwd_ && candidate.front() != '/';  // seen from where the child will be
  const std::string path = at_cwd ? *command_.cwd_ + '/' + candidate : candidate;
  struct stat file;
  if (::stat(path.c_str(), &file) == -1) return errno;
  if (!S_ISREG(file.st_mode)) return EACCES;
  return ::faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0 ? 0 : errno;
}

}  // namespace cohort::detail
