// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../core/asio.hpp"
#include "child.hpp"
#include "command.hpp"

namespace cohort {

/// Starts a child. It runs its program when this returns.
///
/// Does not suspend, and so cannot be cancelled. It holds the calling thread until the child has its program: some 40
/// to 70 µs, however large the parent is, and longer where the program or the directory is on a slow file system, or a
/// user is to be looked up in a slow database.
///
/// The child belongs to the executor of the calling coroutine. It has descriptors 0, 1, 2 and those that the command
/// sets, no signal blocked and each at its default action but for those that the command sets; it inherits the rest of
/// what the command leaves as it is (limits, umask, priority).
///
/// ETXTBSY means that some process still has the program's file open for writing: one that this process has written a
/// moment ago, and that another child, being started in another thread, has inherited; close it, or try again.
///
/// Throws std::system_error that names the step and the value, `spawn: chdir "/nope": No such file or directory`; then
/// there is no child. Reads the environment of this process: no other thread may change it meanwhile (setenv(3)).
asio::awaitable<child> spawn(command what);

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "spawn.ipp"
#endif
