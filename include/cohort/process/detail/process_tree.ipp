// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "process_tree.hpp"

#include "../../core/config.hpp"

#include <memory>
#include <system_error>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "../../core/descriptor.hpp"

namespace cohort::detail {

COHORT_INLINE std::optional<process_record> read_process(const std::string& directory) {
  const auto path = directory + "/stat";
  const descriptor file(system::retry(system::call.open, path.c_str(), O_RDONLY | O_CLOEXEC, mode_t(0)));
  if (!file && lacks_resources()) throw_error(fmt::format("child: kill_tree: open \"{}\"", path), errno);
  char text[1024];
  const auto size = file ? system::retry(::read, file.get(), text, sizeof text - 1) : -1;
  if (size <= 0) return std::nullopt;
  text[size] = '\0';

  process_record found;
  found.pid = std::atoi(text);
  const char* name_end = std::strrchr(text, ')');  // a name may hold anything
  constexpr auto fields = ") %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d %llu";
  if (name_end == nullptr || std::sscanf(name_end, fields, &found.state, &found.parent, &found.group, &found.session,
                                         &found.threads, &found.start) != 6) {
    return std::nullopt;
  }
  return found;
}

COHORT_INLINE std::vector<process_record> read_processes(const std::string& directory) {
  descriptor opened(system::retry(system::call.open, directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC, mode_t(0)));
  if (!opened && !lacks_resources()) return {};
  const auto close = [](DIR* stream) { ::closedir(stream); };
  const std::unique_ptr<DIR, decltype(close)> stream(opened ? ::fdopendir(opened.get()) : nullptr, close);
  if (!stream) throw_error(fmt::format("child: kill_tree: open \"{}\"", directory), errno);
  (void)opened.release();

  std::vector<process_record> found;
  while (const auto* entry = ::readdir(stream.get())) {
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    if (const auto process = read_process(directory + '/' + entry->d_name)) found.push_back(*process);
  }
  return found;
}

COHORT_INLINE bool process_tree::signal(int number) {
  if (number < 0 || number >= NSIG) throw_error(fmt::format("child: kill_tree: signal {}", number), EINVAL);
  bool reached = true;
  try {
    stop();
    for (auto each = members_.rbegin(); each != members_.rend(); ++each) {
      const auto got = number == SIGSTOP && each->stopped ? answer::sent : send(*each, number);
      if (each->pid == root_) reached = got != answer::refused;
    }
  } catch (...) {
    resume();
    throw;
  }
  // Whoever was forked too late to be found stands still.
  if (number == SIGKILL && leads_group_) system::call.kill(-root_, SIGKILL);
  if (number != SIGKILL && number != SIGSTOP) resume();
  return reached;
}

COHORT_INLINE void process_tree::stop() {
  const auto root = read_process(directory(root_));
  // A /proc of another PID namespace means other processes by the same numbers.
  if (!root || root->parent != ::getpid() || !owns_number())
    throw_error(fmt::format("child: kill_tree: read \"{}/stat\"", directory(root_)), ESRCH);
  // The kernel stops a group at once, with what its members are forking, where a look at /proc comes too late for
  // processes that live shorter than it takes.
  leads_group_ = root->group == root_ && ::getpgrp() != root_;
  if (leads_group_) system::call.kill(-root_, SIGSTOP);
  add(*root);
  // A stop takes effect when the process leaves the kernel, and one that forks may leave it late. What takes longer
  // than this hangs there, or runs away by ending as soon as it has forked.
  const auto end = clock::now() + std::chrono::seconds(1);
  do {
    const bool still = at_rest();  // before the look: nobody can have started a process since
    const bool grown = grow(read_processes("/proc"));
    if (still && !grown) return;
    constexpr timespec moment{0, 100'000};
    if (!grown) ::nanosleep(&moment, nullptr);
  } while (clock::now() < end);
}

COHORT_INLINE bool process_tree::at_rest() const {
  for (const auto& each : members_) {
    if (!each.stopped) continue;
    const auto now = read_process(directory(each.pid));
    if (!now || now->start != each.start) continue;
    if (!now->at_rest()) return false;
    if (now->threads == 1) continue;
    for (const auto& thread : read_processes(directory(each.pid) + "/task")) {
      if (!thread.at_rest()) return false;
    }
  }
  return true;
}

COHORT_INLINE bool process_tree::grow(const std::vector<process_record>& all) {
  const auto before = members_.size();
  for (;;) {
    const auto size = members_.size();
    for (const auto& process : all) {
      if (find(process) == nullptr && is_child(process)) add(process);
    }
    if (members_.size() != size) continue;  // a child may stand before its parent
    for (const auto& process : all) {
      if (members_.size() != size) break;  // its children come first
      if (find(process) == nullptr && is_mate(process)) add(process);
    }
    if (members_.size() == size) return size != before;
  }
}

COHORT_INLINE bool process_tree::is_child(const process_record& process) const {
  const auto parent = index_.find(process.parent);
  // The number was the parent's when the child's record was read if it still is.
  return parent != index_.end() && is_there(members_[parent->second]);
}

COHORT_INLINE bool process_tree::is_mate(const process_record& process) const {
  return (process.group == root_ || process.session == root_) && process.pid != ::getpid() && owns_number();
}

COHORT_INLINE void process_tree::add(const process_record& process) {
  member added{process.pid, process.start, false};
  const auto stopped = send(added, SIGSTOP);
  if (stopped == answer::gone) return;
  added.stopped = stopped == answer::sent;
  index_[process.pid] = members_.size();
  members_.push_back(added);
}

COHORT_INLINE const process_tree::member* process_tree::find(const process_record& process) const {
  const auto found = index_.find(process.pid);
  if (found == index_.end() || members_[found->second].start != process.start) return nullptr;
  return &members_[found->second];
}

COHORT_INLINE void process_tree::resume() noexcept {
  for (auto each = members_.rbegin(); each != members_.rend(); ++each) {
    if (!each->stopped) continue;
    try {
      send(*each, SIGCONT);
    } catch (const std::system_error&) {
      // Unproven, and harmless: better than a process that stands still for ever.
      system::call.kill(each->pid, SIGCONT);
    }
  }
  if (leads_group_) system::call.kill(-root_, SIGCONT);  // whoever was stopped and not found
}

COHORT_INLINE process_tree::answer process_tree::send_to_root(int number) const {
  if (system::call.pidfd_send_signal(pidfd_, number) == 0) return answer::sent;
  return errno == EPERM ? answer::refused : answer::gone;
}

COHORT_INLINE process_tree::answer process_tree::send(const member& process, int number) const {
  if (process.pid == root_) return send_to_root(number);
  const descriptor pidfd(system::call.pidfd_open(process.pid));
  // A system that refuses the call (seccomp) would else look like one in which nobody is left.
  if (!pidfd && errno != ESRCH) throw_error("child: kill_tree: pidfd_open", errno);
  if (!pidfd || !is_there(process)) return answer::gone;
  if (system::call.pidfd_send_signal(pidfd.get(), number) == 0) return answer::sent;
  return errno == EPERM ? answer::refused : answer::gone;
}

COHORT_INLINE bool process_tree::is_there(const member& process) {
  const auto now = read_process(directory(process.pid));
  return now && now->start == process.start;
}

}  // namespace cohort::detail
