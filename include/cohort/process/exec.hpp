// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>

#include "../core/asio.hpp"
#include "../core/run_sync.hpp"
#include "command.hpp"
#include "exec_options.hpp"
#include "output.hpp"

namespace cohort {

/// Runs a program to its end and returns its status and what it has written.
///
/// The command sets all that spawn() knows: arguments, directory, environment, limits. What it leaves open of standard
/// input, output and error output is set here: input from the options, both outputs to the result.
///
/// Input is written while output is read, so that neither waits for the other. Reads until the program has ended and
/// both outputs are closed. A process that the program leaves in the background may hold them open: after `linger` the
/// result is `truncated`, and that process lives on, and gets SIGPIPE when it writes. One whose output goes elsewhere
/// (`daemon >/dev/null 2>&1 &`) is not waited for.
///
/// Any status is a value, and so is a timeout: the program and its descendants are stopped, the result says
/// `timed_out`, and holds what was written until then. The processes are found by /proc; without it, those of the
/// program's own process group are stopped.
///
/// The status is not known, neither exited nor killed, of a program that refuses our signals (EPERM, which a
/// set-user-ID program such as sudo does): when it is to be stopped, its pipes are closed and it is left alone. Nor is
/// it known when this process ignores SIGCHLD, or somebody else in it has collected the status.
///
/// Each run has a strand of its own, so that it may be used on executors of several threads. Only a cancellation of
/// type `terminal` cancels it, as everything here; asio's operators `||` and `&&` and with_timeout send that.
///
/// Throws truncated_output, errc::output_too_large, when there is more output than `max_output`; what spawn() throws;
/// and errc::invalid_option when the options and the command both set the same stream. Then, and when this is
/// cancelled, which throws operation_aborted at once, the program and its descendants are killed, as far as
/// child::kill_tree finds them. Its end is left to the execution context, as child says.
asio::awaitable<output> exec_file(command what, exec_options options = {});

/// Has the shell run a script, `/bin/sh -c`, and returns its status and what it has written. Otherwise as exec_file.
///
///     const auto listing = co_await cohort::exec("ls | wc -l");
///     const auto listing = cohort::run_sync(cohort::exec("ls | wc -l"));   // without a loop, not in a coroutine
///
/// NEVER build the script from data: a file name like `x; rm -rf ~` is a script of its own. Use
/// exec_file(command("wc", "-l", name)), which no shell reads, or pass data as arguments or variables that the script
/// quotes: exec_file(command("/bin/sh", "-c", "wc -l \"$1\" | sort", "sh", name)).
///
/// The status is the shell's: 127 when it finds no such program, 128 and the number of the signal that has killed one.
asio::awaitable<output> exec(std::string script, exec_options options = {});

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "exec.ipp"
#endif
