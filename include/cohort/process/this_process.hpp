// SPDX-License-Identifier: BSL-1.0
/// How this process looks from outside: its title, and since when it runs. See also daemonize.hpp.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "../core/error.hpp"

namespace cohort::this_process {

/// Sets what ps and `/proc/PID/cmdline` show as the command line of this process, and, as its name in `/proc/PID/comm`
/// and top, the first 15 bytes of that (PR_SET_NAME(2const)).
///
/// The room is that of the arguments and the environment that the program was started with, and 4095 bytes at most: a
/// longer title is cut. The first call moves both elsewhere: main's argv, environ and program_invocation_name are valid
/// as before and say the same; a `char*` that was taken OUT of argv or that getenv() returned before the first call now
/// points into the title (at a string that ends, but another one), and `/proc/PID/environ` shows the environment no
/// more. So call it once at the beginning of main.
///
/// Call it from the main thread, whose name is the process's, and for the first time before another thread reads the
/// environment. Throws errc::invalid_option for a title with a NUL inside, and an errno where there is no /proc.
void set_title(std::string_view title);

/// The title, as much of it as is shown; until one is set, the command line that the program was started with, with
/// spaces between the arguments. Thread rule as set_title(). Throws an errno where there is no /proc.
std::string title();

/// How long this process exists, in steps of a kernel tick (10 ms), with the time in which the machine was suspended.
/// A process goes on existing when it executes another program. Safe from any thread. Throws an errno where there is no
/// /proc.
std::chrono::milliseconds uptime();

}  // namespace cohort::this_process

#ifndef COHORT_SEPARATE_COMPILATION
#include "this_process.ipp"
#endif
