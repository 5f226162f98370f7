// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "orphan_reaper.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../core/asio_error.hpp"

namespace cohort {

namespace detail {

COHORT_INLINE std::optional<pid_t> parse_pid(std::string_view text) {
  pid_t result = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, result);
  return parsed.ec == std::errc() && parsed.ptr == end && result > 0 ? std::optional<pid_t>(result) : std::nullopt;
}

COHORT_INLINE std::vector<pid_t> zombies() {
  std::vector<pid_t> result;
  const std::string parent = std::to_string(::getpid());
  std::error_code error;
  for (std::filesystem::directory_iterator at("/proc", error), end; !error && at != end; at.increment(error)) {
    const auto pid = parse_pid(at->path().filename().native());
    std::string line;
    std::ifstream file;
    if (pid) file.open(at->path() / "stat");
    if (!pid || !std::getline(file, line)) continue;
    // "PID (NAME) STATE PPID …", and a name may hold anything
    const auto name_end = line.rfind(')');
    if (name_end != line.npos && line.compare(name_end, 4 + parent.size() + 1, ") Z " + parent + ' ') == 0) {
      result.push_back(*pid);
    }
  }
  return result;
}

COHORT_INLINE std::optional<std::vector<pid_t>> held_by_pidfd() {
  std::vector<pid_t> result;
  std::error_code error;
  for (std::filesystem::directory_iterator at("/proc/self/fd", error), end; !error && at != end; at.increment(error)) {
    std::error_code gone;
    const auto target = std::filesystem::read_symlink(at->path(), gone);
    if (gone || target.native().find("pidfd") == std::string::npos) continue;
    std::ifstream file("/proc/self/fdinfo" / at->path().filename());
    for (std::string line; std::getline(file, line);) {
      constexpr std::string_view key = "Pid:\t";
      if (!line.starts_with(key)) continue;
      if (const auto pid = parse_pid(std::string_view(line).substr(key.size()))) result.push_back(*pid);
    }
  }
  if (error) return std::nullopt;
  return result;
}

}  // namespace detail

COHORT_INLINE std::size_t reap_orphans_now() {
  siginfo_t info{};
  const bool any = ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
  if (!any) return 0;
  // In this order: one that is started meanwhile has its pidfd before it can end.
  const auto ended = detail::zombies();
  const auto held = detail::held_by_pidfd();
  std::size_t reaped = 0;
  if (!held) return reaped;
  for (const pid_t pid : ended) {
    if (std::find(held->begin(), held->end(), pid) != held->end()) continue;
    info = {};
    const int result = ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG);
    if (result == 0 && info.si_pid == pid) ++reaped;
  }
  return reaped;
}

COHORT_INLINE asio::awaitable<void> reap_orphans() {
  asio::signal_set signals(co_await asio::this_coro::executor, SIGCHLD);
  for (;;) {
    reap_orphans_now();
    co_await signals.async_wait(detail::awaited);
  }
}

}  // namespace cohort
