// SPDX-License-Identifier: BSL-1.0
/// The duty of an init: to reap processes whose own parents have ended. A process has it if its number is 1, as in a
/// container, or if it has made itself a subreaper (PR_SET_CHILD_SUBREAPER(2const)).
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include "../../core/asio.hpp"

namespace cohort {
namespace detail {

std::optional<pid_t> parse_pid(std::string_view text);

/// Children of this process that have ended and are not reaped (proc_pid_stat(5)).
std::vector<pid_t> zombies();

/// The processes that this one holds a pidfd of (pidfd_open(2), "Pid:"); nothing if that cannot be told.
std::optional<std::vector<pid_t>> held_by_pidfd();

}  // namespace detail

/// Reaps the children of this process that have ended and that it holds no pidfd of, and returns how many. Does not
/// wait.
///
/// Those that spawn() has started are held by a pidfd until their status has been taken, so none of them is reaped
/// here. A child that was started by other means (fork, posix_spawn) looks like a stranger: its status is lost. Reads
/// /proc; where that cannot be read nothing is reaped.
std::size_t reap_orphans_now();

/// Does so at each SIGCHLD until it is cancelled, which throws operation_aborted.
///
/// Sets a handler for SIGCHLD, which is the process's: for programs that own their main.
asio::awaitable<void> reap_orphans();

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "orphan_reaper.ipp"
#endif
